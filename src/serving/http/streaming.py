"""Answers in pieces: the model's `stream`, from its first piece to its end.

The first piece is made before there is an answer, so what goes wrong until then is an ordinary error. Later there is a
status already: an error is the last piece. Whatever ends an answer, the model's generator is closed and the release is
given back; until then the release stays in memory, also if another one serves by now.
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from serving.errors import HttpError, PieceError
from serving.http import responses, validation
from serving.http.events import HttpRequest
from serving.http.framing import EVENT_STREAM, Framing, Piece, accepted
from serving.http.responses import HttpResponse
from serving.http.service import Invocation, Reader, Service
from serving.releases.slot import LoadedRelease, takes_deadline
from serving.telemetry.pieces import PieceCounts
from serving.telemetry.receipts import Phase

# The largest answer that Lambda streams, in bytes (Lambda quotas, "Invocation payload"), less space for the end.
MAX_STREAM_BYTES = 200 * 1024 * 1024 - 65_536
# The same for an answer that is collected: the end of the stream has to fit too.
MAX_COLLECTED_BYTES = responses.MAX_ANSWER_BYTES - 4_096
# How much of an answer a line of the log has, in bytes. CloudWatch takes lines of 256 KB.
LOGGED_BYTES = 100_000

# Begins an answer: the pieces from a release, told what gives the seconds that are left; None where the release's model
# answers as a whole.
Start = Callable[[LoadedRelease, Callable[[], float]], Iterator[Piece] | None]


def framing_for(request: HttpRequest, parsed: BaseModel) -> Framing | None:
    """How the client wants the pieces; None where it wants a whole answer.

    A field `stream: true` of the request asks for server-sent events, if the header `Accept` asks for nothing else.
    """
    wanted = accepted(request.header("accept") or "")
    return wanted or (EVENT_STREAM if getattr(parsed, "stream", False) is True else None)


def answer(
    service: Service,
    invocation: Invocation,
    key: Callable[[], bytes],
    framing: Framing,
    start: Start,
) -> HttpResponse | None:
    """An answer in pieces, its first piece made; None where `start` says that this release answers as a whole.

    Args:
        invocation: has a reader.
        key: decides between the current release and a canary.
        framing: how the pieces stand in the body.
        start: begins the answer; its iterator is closed in any case.

    Raises:
        HttpError: the request is refused, by the model or before it.
        ReleaseUnavailableError: no release can serve.
        Exception: the model failed before its first piece.
    """
    assert invocation.reader is not None
    pieces = PieceStream(service, invocation, invocation.reader, framing)
    try:
        if not pieces.begin(key, start):
            return None
    except PydanticCustomError as refusal:
        raise validation.refusal(refusal) from None
    headers = {"Cache-Control": "no-store", "X-Model-Version": pieces.version}
    return HttpResponse(200, "", headers, framing.content_type, pieces)


def of_model(request: BaseModel) -> Start:
    """Begins the answer of the model's own `stream`, if it has one. That may take a `deadline`."""

    def start(release: LoadedRelease, seconds_left: Callable[[], float]) -> Iterator[Piece] | None:
        stream: Callable[..., Iterable[Piece]] | None = getattr(release.model, "stream", None)
        if stream is None:
            return None
        validation.check(release.model, request)
        named = {"deadline": seconds_left} if takes_deadline(stream) else {}
        return iter(stream(request, **named))

    return start


class PieceStream:
    """The framed pieces of one answer, as an iterator of bytes that must be read to its end or closed.

    Attributes:
        version: the release that answers; empty before `begin`.
        counts: how many pieces there were, and when.
        ended: why the answer ended: the model's own reason or `stop`; `deadline` or `length`, where the function ended
            it; `error`; or what `close` was told. Empty before the end.
        code: the error's code, where the answer ended with an error.
        finished: is called once, after the end.
    """

    def __init__(
        self,
        service: Service,
        invocation: Invocation,
        reader: Reader,
        framing: Framing,
    ) -> None:
        self.version = ""
        self.counts = PieceCounts()
        self.ended = ""
        self.code: str | None = None
        self.finished: Callable[[], object] | None = None
        self._kept: bytearray | None = bytearray() if service.settings.log_requests else None
        self._service, self._invocation, self._reader = service, invocation, reader
        self._framing = framing
        self._first: bytes | None = None
        self._frames: Generator[bytes] | None = None
        self._bytes_left = MAX_STREAM_BYTES if reader.streams else MAX_COLLECTED_BYTES

    def begin(self, key: Callable[[], bytes], start: Start) -> bool:
        """Make the first piece. False: this release answers as a whole, and there are no pieces."""
        frames = self._run(key, start)
        self._first = next(frames, None)
        self._frames = frames
        return self._first is not None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        frame, self._first = self._first, None
        if frame is None:
            try:
                frame = next(self._frames or iter(()))
            except StopIteration:
                self.close("stop")
                raise
            except BaseException:
                self.close("error")
                raise
        if self._kept is not None and len(self._kept) < LOGGED_BYTES:
            self._kept += frame
        return frame

    @property
    def text(self) -> str:
        """The body so far, or its beginning, where the log has answers."""
        return (self._kept or b"").decode(errors="replace")

    def close(self, reason: str = "client_gone") -> None:
        """End the answer here, if it has not ended: the model's generator gets GeneratorExit."""
        self.ended = self.ended or reason
        # Nothing of the answer stays with those who still hold this object.
        frames, self._frames, self._first = self._frames, None, None
        if frames is not None:
            frames.close()
        finished, self.finished = self.finished, None
        if finished is not None:
            finished()

    def _run(self, key: Callable[[], bytes], start: Start) -> Generator[bytes]:
        with self._service.follower.use(key) as release:
            self.version = release.version
            pieces = start(release, self._seconds_left)
            if pieces is None:
                return
            try:
                yield from self._framed(pieces)
            finally:
                close = getattr(pieces, "close", None)
                if close is not None:
                    self._close_model(close)

    def _framed(self, pieces: Iterator[Piece]) -> Iterator[bytes]:
        reason: object = None
        while True:
            if self._seconds_left() < self.counts.slowest:
                reason = "deadline"
                break
            try:
                piece = self._next(pieces)
                frame = b"" if piece is None else self._frame(piece)
            except Exception as defect:
                if not self.counts.pieces:
                    raise
                yield self._failed(defect)
                return
            if piece is None:
                break
            self._bytes_left -= self._cost(frame)
            if self._bytes_left < 0:
                reason = "length"
                break
            self.counts.add(self._invocation.receipt.so_far())
            reason = getattr(piece, "finish_reason", None)
            yield frame
        self.ended = reason if isinstance(reason, str) else "stop"
        yield self._framing.end({"finish_reason": self.ended, **self.counts.summary()})

    def _next(self, pieces: Iterator[Piece]) -> Piece | None:
        """The model's next piece; None at its end. What it took is the phase `predict`."""
        began = time.perf_counter_ns()
        try:
            return next(pieces, None)
        finally:
            took = time.perf_counter_ns() - began
            if self.counts.pieces:
                self.counts.took(took)
            else:
                receipt = self._invocation.receipt
                receipt.phases.append(Phase("predict", began - receipt.origin, took, 0))

    def _frame(self, piece: Piece) -> bytes:
        if not isinstance(piece, BaseModel | str):
            raise PieceError(
                f"Model.stream gave a piece of type {type(piece).__name__}; a piece is a pydantic model or a str"
            )
        return self._framing.piece(piece)

    def _cost(self, frame: bytes) -> int:
        """What a frame takes of the limit. A collected answer becomes a JSON string, where some letters take two."""
        return len(frame) if self._reader.streams else len(json.dumps(frame.decode(), ensure_ascii=False).encode()) - 2

    def _failed(self, defect: Exception) -> bytes:
        if isinstance(defect, PydanticCustomError):
            error = validation.refusal(defect)
        elif isinstance(defect, HttpError):
            error = defect
        else:
            self._log_failure(defect)
            message = "The model failed in the middle of its answer; the function's log says why."
            error = HttpError(500, "internal_error", message)
        self.ended, self.code = "error", error.code
        return self._framing.error(error)

    def _close_model(self, close: Callable[[], object]) -> None:
        """A generator may raise while it is closed: that ends the answer no worse than it has ended."""
        try:
            close()
        except Exception as defect:
            self._log_failure(defect)

    def _log_failure(self, defect: Exception) -> None:
        facts = {"request_id": self._invocation.request_id, "pieces": self.counts.pieces}
        self._service.log.failure("stream failed", facts, defect)

    def _seconds_left(self) -> float:
        return self._reader.piece_seconds()
