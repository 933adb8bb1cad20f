"""The client for threads."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2

from lambda_torch_client import calls
from lambda_torch_client.answers import Answer, StreamEnd, UploadRef
from lambda_torch_client.calls import Call, PieceT, RequestT, ResponseT, ServiceConnection
from lambda_torch_client.errors import ApiError, ModelServiceError
from lambda_torch_client.pieces import Form, PieceDecoder
from lambda_torch_client.retries import Tries

Result = TypeVar("Result")


class PieceReader(Generic[PieceT]):
    """The pieces of an answer, each as soon as it arrives.

    Attributes:
        release: the version of the release that answers.
    """

    def __init__(self, response: httpx2.Response, form: Form) -> None:
        self._response = response
        self._decoder = PieceDecoder(form)
        self.release: str | None = response.headers.get("x-model-version")

    @property
    def end(self) -> StreamEnd | None:
        """How the answer ended; None before that."""
        return self._decoder.end

    def __iter__(self) -> Iterator[PieceT]:
        """The pieces.

        Raises:
            ApiError: the model failed after the first piece.
            StreamError, UnreachableError: the connection ended before the answer did.
        """
        with calls.naming(str(self._response.url)):
            for data in self._response.iter_bytes():
                yield from self._decoder.feed(data)
        self._decoder.close()


class Client(ServiceConnection[RequestT, ResponseT, PieceT]):
    """Asks a model that lambda-torch serves. Threads may share a client, and its connections.

    Example:
        with Client("http://127.0.0.1:3000") as client:
            print(client.predict({"category": "Russian", "start_letters": "RUS"}))

    Every method may raise `UnreachableError` and `ApiError`, after its retries.
    """

    def _connect(self) -> None:
        self._http = httpx2.Client(timeout=self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, request: RequestT) -> ResponseT:
        """The model's answer to one request."""
        return self.answer(request).value

    def answer(self, request: RequestT) -> Answer[ResponseT]:
        """The model's answer with its release, its times and the id of the request."""
        return calls.answer_of(self._send(calls.predict_call(request)))

    def predict_many(self, requests: Sequence[RequestT], list_size: int = 100) -> list[ResponseT | ApiError]:
        """The answers to many requests, in order. A refused request has its error in its place.

        Args:
            list_size: requests in one list; the function takes up to its `MAX_BATCH_ITEMS`.
        """
        found: list[ResponseT | ApiError] = []
        for part in calls.slices(requests, list_size):
            found += calls.items_of(self._send(calls.predict_call(part)), len(part))
        return found

    @contextmanager
    def stream(self, request: RequestT, form: Form = "events") -> Iterator[PieceReader[PieceT]]:
        """The answer in pieces, inside a `with` block. Who leaves the block ends the model's work.

        Example:
            with client.stream({"prompt": "Once"}) as pieces:
                for piece in pieces:
                    print(piece["text"], end="", flush=True)
                print(pieces.end)

        Until the first piece, a request is sent again as any other one.

        Args:
            form: server-sent events, or lines of JSON. The pieces are the same.
        """
        response = self._send(calls.stream_call(request, form), stream=True)
        try:
            calls.check_streamed(response, form)
            yield PieceReader(response, form)
        finally:
            response.close()

    def upload(self, file: str | Path | bytes) -> UploadRef:
        """Send a file to the bucket that is too large for a body. The result stands for it in requests, for a day.

        Raises:
            UploadError: the file is too large, or the bucket refuses it.
        """
        content = file if isinstance(file, bytes) else Path(file)
        size = calls.size_of(content)
        form = calls.UploadForm.of(calls.value_of(self._send(calls.UPLOAD)))
        form.check(size)
        self._retried(lambda: self._send_file(form, content))
        return {"upload": form.upload}

    def health(self) -> dict[str, Any]:
        """Which release answers, and since when."""
        found: dict[str, Any] = calls.value_of(self._send(calls.HEALTH))
        return found

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the API."""
        found: dict[str, Any] = calls.value_of(self._send(calls.DOCUMENT))
        return found

    def _send(self, call: Call, stream: bool = False) -> httpx2.Response:
        """The successful response to a call, after retries; with its body read, unless it is streamed."""
        return self._retried(lambda: self._try(call, stream))

    def _retried(self, once: Callable[[], Result]) -> Result:
        tries = Tries(self._budget)
        while True:
            try:
                return once()
            except ModelServiceError as error:
                pause = tries.pause(error)
            time.sleep(pause)

    def _try(self, call: Call, stream: bool) -> httpx2.Response:
        with calls.naming(self._url):
            response = self._http.send(self._request(self._http, call), auth=self._auth, stream=True)
            if not stream or not response.is_success:
                try:
                    response.read()
                finally:
                    response.close()
        if not response.is_success:
            raise calls.failure(response)
        self._budget.answered()
        return response

    def _send_file(self, form: calls.UploadForm, content: Path | bytes) -> None:
        """Send the form. Its address is signed for this one file, and no key of the API goes there."""
        with ExitStack() as stack, calls.naming(form.url):
            sent = content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            form.done(self._http.post(form.url, data=form.fields, files={"file": sent}))
