"""The life of an answer in pieces, without Lambda: what ends it, what it holds, and what callers of every kind get."""

import json
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from serving.http import handler, streaming
from serving.http.responses import MAX_ANSWER_BYTES, Cors
from serving.http.service import RESERVE_SECONDS, Invocation, Service
from serving.releases.format import ReleaseRef
from serving.releases.slot import InService, LoadedRelease, Slot
from serving.runtime.answer import StreamedAnswer
from serving.settings import Settings
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log
from serving.telemetry.receipts import Receipt, Start
from serving.telemetry.request_log import RequestLog

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Request(BaseModel):
    """What to say."""

    words: list[str]
    stream: bool = False


class Response(BaseModel):
    """All of it."""

    text: str


class Word(BaseModel):
    """A part of it."""

    text: str


class Whole:
    """A model that has no `stream`."""

    def predict(self, requests: list[Request]) -> list[Response]:
        """All words."""
        return [Response(text=" ".join(each.words)) for each in requests]


class Talking(Whole):
    """A model whose `stream` is what a test makes of it."""

    def __init__(self, stream: Callable[..., Any]) -> None:
        self.stream = stream


def release(model: Any, letter: str = "a") -> LoadedRelease:
    """A loaded release."""
    return LoadedRelease(model, ReleaseRef(version=letter * 64, manifest_sha256="0" * 64), NOW, NOW)


def service(model: Any, streams: frozenset[str] = frozenset(), **settings: Any) -> Service:
    """A started function in which this model serves; its slot is a real one."""
    slot = Slot()
    slot.in_service = InService(release(model))

    @contextmanager
    def use(key: Callable[[], bytes]) -> Iterator[LoadedRelease]:
        found = slot.begin(key)
        assert found is not None
        try:
            yield found
        finally:
            slot.end()

    follower: Any = SimpleNamespace(use=use)
    package: Any = SimpleNamespace(Request=Request, Response=Response, Model=type(model))
    metrics = Metrics("predict")
    log, entries = Log("INFO"), RequestLog(Start(), "on-demand", metrics)
    return Service(Settings(**settings), package, slot, follower, log, metrics, entries, Cors(("*",)), streams)


def event(accept: str = "text/event-stream", mark: str | None = None, body: Any = None) -> dict[str, Any]:
    """A request for pieces."""
    return {
        "httpMethod": "POST",
        "path": "/predict",
        "headers": {"accept": accept},
        "body": json.dumps({"words": ["a", "b"]} if body is None else body),
        "requestContext": {},
        "stageVariables": {"responseStreaming": mark} if mark else None,
    }


def context(seconds: float = 30) -> Any:
    """Lambda's context, with so much time left at each look."""
    return SimpleNamespace(aws_request_id="id", get_remaining_time_in_millis=lambda: int(seconds * 1000))


def streamed(where: Service, seconds: float = 30, **more: Any) -> StreamedAnswer:
    """The answer that goes out in pieces."""
    answer = handler.handle(where, event(mark="pieces", **more), context(seconds))
    assert isinstance(answer, StreamedAnswer)
    return answer


def collected(where: Service, **more: Any) -> dict[str, Any]:
    """The answer for a caller that takes it whole."""
    answer = handler.handle(where, event(**more), context())
    assert isinstance(answer, dict)
    return answer


def last(body: str | bytes) -> dict[str, Any]:
    """What the last event says."""
    text = body if isinstance(body, str) else body.decode()
    found: dict[str, Any] = json.loads(text.rstrip("\n").rpartition("data: ")[2])
    return found


def words(request: Request) -> Iterator[Word]:
    """Each word."""
    for word in request.words:
        yield Word(text=word)


API = frozenset({"api"})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_release_stays_until_its_answer_has_ended() -> None:
    """A swap that has to wait for requests waits for the last piece, and the answer goes on with the model it began with."""
    where = service(Talking(words), API)
    answer = streamed(where)
    assert b'"a"' in next(answer.pieces)
    old = where.slot.in_service
    assert old is not None
    where.slot.in_service = InService(release(Whole(), "b"))
    swapped = threading.Event()

    def swap() -> None:
        with where.slot.drained():
            old.current.unload()
            swapped.set()

    thread = threading.Thread(target=swap)
    thread.start()
    assert b'"b"' in next(answer.pieces)
    assert not swapped.wait(0.05)
    assert b"end" in next(answer.pieces)
    assert next(answer.pieces, None) is None
    thread.join(60)
    assert swapped.is_set()
    assert json.loads(answer.prelude)["headers"]["X-Model-Version"] == "a" * 64


class Ballast:
    """What a model holds while it answers."""


@pytest.mark.parametrize("end", ["read", "close", "error", "first"])
def test_nothing_of_an_ended_answer_stays_in_memory(end: str) -> None:
    """However it ends, the generator's own objects are gone at once, even where the answer is still held."""
    held: list[weakref.ref[Ballast]] = []

    def stream(_request: Request) -> Iterator[str]:
        ballast = Ballast()
        held.append(weakref.ref(ballast))
        if end == "first":
            raise ValueError("no first piece")
        yield "a"
        if end == "error":
            raise ValueError("no second piece")
        yield "b"
        assert ballast

    where = service(Talking(stream), API)
    answer = handler.handle(where, event(mark="pieces"), context())
    if end == "first":
        assert isinstance(answer, dict)
        assert answer["statusCode"] == 500
    else:
        assert isinstance(answer, StreamedAnswer)
        if end == "close":
            next(answer.pieces)
            assert held[0]() is not None
            answer.pieces.close()
        else:
            assert len(list(answer.pieces)) == {"read": 3, "error": 2}[end]
    (reference,) = held
    assert reference() is None
    with where.slot.drained():
        pass


def endless(request: Request) -> Iterator[str]:
    """A client's words again and again."""
    while True:
        yield from request.words


def test_a_collected_answer_ends_before_lambda_would_drop_it() -> None:
    """A caller that takes whole answers gets as much of an endless one as Lambda passes on, with a regular end."""
    for word in ("a" * 50_000, '"' * 50_000, "\n" * 50_000, "\u20ac" * 50_000):
        answer = collected(service(Talking(endless)), body={"words": [word]})
        size = len(json.dumps(answer, ensure_ascii=False).encode())
        assert MAX_ANSWER_BYTES * 0.9 < size <= 6_291_456
        assert last(answer["body"])["finish_reason"] == "length"


def test_a_stream_ends_before_lambda_would_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless answer ends regularly when it has as many bytes as Lambda streams."""
    assert streaming.MAX_STREAM_BYTES < 200 * 1024 * 1024
    monkeypatch.setattr(streaming, "MAX_STREAM_BYTES", 10_000)
    body = b"".join(streamed(service(Talking(endless), API)).pieces)
    assert 9_000 < len(body) < 10_500
    assert last(body)["finish_reason"] == "length"


def test_a_model_is_told_what_is_left_for_it() -> None:
    """A parameter `deadline` gives the seconds that are left, less what the function needs itself."""
    told: list[float] = []

    def stream(_request: Request, deadline: Callable[[], float]) -> Iterator[str]:
        told.append(deadline())
        yield "a"

    list(streamed(service(Talking(stream), API), seconds=9).pieces)
    assert told == [9 - RESERVE_SECONDS]


def test_a_whole_answer_ends_in_time_too() -> None:
    """A `predict` with a parameter `deadline` is told the same, where a client waits for one answer; others are not."""
    told: list[float] = []

    class Careful(Whole):
        def predict(self, requests: list[Request], deadline: Callable[[], float] = lambda: 0.0) -> list[Response]:
            told.append(deadline())
            return super().predict(requests)

    where = service(Careful())
    where_asked = collected(where, accept="*/*")
    assert where_asked["statusCode"] == 200
    assert told == [30 - RESERVE_SECONDS]
    handler.respond(where, event(), Invocation(Receipt()))
    assert told[1:] == [0.0]
    assert json.loads(collected(service(Whole()), accept="*/*")["body"]) == {"text": "a b"}


@pytest.mark.parametrize(
    ("context_of_event", "mark", "accept", "limited"),
    [
        ({"requestTimeEpoch": 10}, None, "*/*", True),
        ({"timeEpoch": 10}, None, "*/*", True),
        ({"timeEpoch": 10}, "pieces", "*/*", True),
        ({"timeEpoch": 10}, None, "text/event-stream", True),  # collected, and sent whole
        ({"timeEpoch": 10}, "pieces", "text/event-stream", False),
        ({"timeEpoch": 10}, "on", "*/*", False),  # the API takes every answer as a stream, and waits for it
        ({"timeEpoch": 10, "domainName": "abc.lambda-url.us-east-1.on.aws"}, None, "*/*", False),
        ({"requestTimeEpoch": 3600}, None, "*/*", False),  # a kept event: nobody waits
        ({"requestTimeEpoch": "10"}, None, "*/*", False),
        ({}, None, "*/*", False),
    ],
)
def test_a_whole_answer_is_there_before_the_api_gives_up(
    context_of_event: dict[str, Any], mark: str | None, accept: str, limited: bool
) -> None:
    """API Gateway waits 29 s for a whole answer, from when it got the request: then a model has less time than Lambda gives."""
    told: list[float] = []

    class Careful(Whole):
        def predict(self, requests: list[Request], deadline: Callable[[], float] = lambda: 0.0) -> list[Response]:
            told.append(deadline())
            return super().predict(requests)

        def stream(self, request: Request, deadline: Callable[[], float]) -> Iterator[str]:
            told.append(deadline())
            yield "a"

    ago = {
        name: int((time.time() - value) * 1000) if isinstance(value, int) else value
        for name, value in context_of_event.items()
    }
    sent = event(accept, mark) | {"requestContext": ago}
    answer = handler.handle(service(Careful(), API), sent, context(300))
    if isinstance(answer, StreamedAnswer):
        list(answer.pieces)
    (seconds,) = told
    assert seconds <= 29 - 10 - RESERVE_SECONDS if limited else seconds == 300 - RESERVE_SECONDS


def test_without_time_no_piece_is_begun(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no time is left the answer has no piece, and says why; nothing is divided by zero."""

    def stream(_request: Request) -> Iterator[str]:
        return (str(1 / 0) for _ in range(2))

    body = b"".join(streamed(service(Talking(stream), API), seconds=0.1).pieces)
    end = {"finish_reason": "deadline", "pieces": 0, "first_piece_ms": 0.0, "pieces_per_second": 0.0}
    assert last(body) == end
    (line,) = lines(capsys)
    assert (line["ended"], line["pieces"]) == ("deadline", 0)
    assert "FirstPieceMilliseconds" not in line


def test_the_function_stops_a_model_that_would_come_too_late() -> None:
    """If the slowest piece so far would not fit into what is left, no other one is begun."""
    left = iter([5.0, 4.0, 3.0, 2.0])
    clock = SimpleNamespace(aws_request_id="id", get_remaining_time_in_millis=lambda: next(left) * 1000)
    answer = handler.handle(service(Talking(endless), API), event(mark="pieces"), clock)
    assert isinstance(answer, StreamedAnswer)
    pieces: Any = answer.pieces
    assert next(pieces)
    pieces.counts.slowest = 10.0
    rest = list(pieces)
    assert len(rest) == 1
    assert last(rest[0])["finish_reason"] == "deadline"


@pytest.mark.parametrize(
    ("stream", "cause"),
    [
        (lambda _request: None, "'NoneType' object is not iterable"),
        (lambda _request: iter([b"bytes"]), "a piece of type bytes"),
        (lambda _request: iter([{"text": "a"}]), "a piece of type dict"),
        (lambda _request: iter([3]), "a piece of type int"),
        (lambda: iter(["a"]), "positional argument"),
    ],
)
def test_what_is_no_stream_of_pieces_is_an_error(
    stream: Callable[..., Any], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client gets 500 and no half answer, and the log says what the model gave."""
    answer = collected(service(Talking(stream)))
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (500, "internal_error")
    assert cause in lines(capsys)[0]["exception"]


def test_a_generator_that_does_not_end_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """One that goes on after GeneratorExit ends the answer no worse, and the environment is free again."""

    def stream(_request: Request) -> Iterator[str]:
        try:
            yield "a"
        finally:
            yield "b"

    where = service(Talking(stream), API)
    answer = streamed(where)
    next(answer.pieces)
    answer.pieces.close()
    failed, request = lines(capsys)
    assert "generator ignored GeneratorExit" in failed["exception"]
    assert request["ended"] == "client_gone"
    with where.slot.drained():
        pass


def test_an_answer_may_have_no_pieces() -> None:
    """A model that has nothing to say ends regularly."""
    assert last(collected(service(Talking(lambda _request: [])))["body"])["pieces"] == 0


def test_who_did_not_ask_gets_the_whole_answer() -> None:
    """Without the header or the field, for a list, and from a model without `stream`, the answer is `predict`'s."""
    whole = {"text": "a b"}
    asked = {"words": ["a", "b"], "stream": True}
    for model, accept, body, wanted in [
        (Talking(words), "*/*", None, whole),
        (Talking(words), "text/event-stream", [{"words": ["a", "b"]}] * 2, [whole] * 2),
        (Whole(), "text/event-stream", None, whole),
        (Whole(), "application/json", asked, whole),
    ]:
        assert json.loads(collected(service(model), accept=accept, body=body)["body"]) == wanted
    assert "data:" in collected(service(Talking(words)), accept="application/json", body=asked)["body"]


def test_without_a_reader_nothing_is_streamed() -> None:
    """What asks on nobody's behalf, such as the request before a snapshot, gets a whole answer."""
    _, response, _ = handler.respond(service(Talking(words)), event(), Invocation(Receipt()))
    assert response.pieces is None
    assert json.loads(response.body) == {"text": "a b"}


def test_a_log_that_has_answers_has_those_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    """With LOG_REQUESTS the line has what was sent, at most so much of it; without, it has nothing of it."""
    body = collected(service(Talking(words), LOG_REQUESTS=True))["body"]
    (line,) = lines(capsys)
    assert line["answered"] == body
    assert json.loads(line["asked"]) == {"words": ["a", "b"]}
    long = {"words": ["a" * 60_000] * 4}
    collected(service(Talking(words), LOG_REQUESTS=True), body=long)
    (line,) = lines(capsys)
    assert len(line["answered"]) < streaming.LOGGED_BYTES + 61_000
    collected(service(Talking(words)))
    (line,) = lines(capsys)
    assert not {"asked", "answered"} & line.keys()


def test_times_cover_the_whole_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The header has the times until the first piece, and the log those until the end."""
    answer = streamed(service(Talking(words), API))
    header = json.loads(answer.prelude)["headers"]["Server-Timing"]
    list(answer.pieces)
    (line,) = lines(capsys)
    until = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", header)}
    # The log adds what came later, so each of its times is at least the header's.
    assert line["phases"]["predict"] > until["predict"]
    assert line["ms"] == line["phases"]["total"] > until["total"]
    assert line["start"]["kind"] == "on-demand"
