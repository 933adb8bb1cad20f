"""The client for tasks of asyncio and trio. A task that is cancelled closes its connection, and so ends the model's work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import httpx2

from lambda_torch_client import calls
from lambda_torch_client.answers import Answer, StreamEnd, UploadRef
from lambda_torch_client.calls import Call, PieceT, RequestT, ResponseT, ServiceConnection
from lambda_torch_client.errors import ApiError, ModelServiceError
from lambda_torch_client.pieces import Form, PieceDecoder
from lambda_torch_client.retries import Tries

Result = TypeVar("Result")


class AsyncPieceReader(Generic[PieceT]):
    """The pieces of an answer, each as soon as it arrives. See `PieceReader`."""

    def __init__(self, response: httpx2.Response, form: Form) -> None:
        self._response = response
        self._decoder = PieceDecoder(form)
        self.release: str | None = response.headers.get("x-model-version")

    @property
    def end(self) -> StreamEnd | None:
        """How the answer ended; None before that."""
        return self._decoder.end

    async def __aiter__(self) -> AsyncIterator[PieceT]:
        """The pieces, and the errors of `PieceReader`."""
        with calls.naming(str(self._response.url)):
            async for data in self._response.aiter_bytes():
                for piece in self._decoder.feed(data):
                    yield piece
        self._decoder.close()


class AsyncClient(ServiceConnection[RequestT, ResponseT, PieceT]):
    """`Client` for tasks: the same methods, each to be awaited.

    Example:
        async with AsyncClient("http://127.0.0.1:3000") as client:
            print(await client.predict({"category": "Russian", "start_letters": "RUS"}))
    """

    def _connect(self) -> None:
        self._http = httpx2.AsyncClient(timeout=self._timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, request: RequestT) -> ResponseT:
        """The model's answer to one request."""
        return (await self.answer(request)).value

    async def answer(self, request: RequestT) -> Answer[ResponseT]:
        """The model's answer with its release, its times and the id of the request."""
        return calls.answer_of(await self._send(calls.predict_call(request)))

    async def predict_many(self, requests: Sequence[RequestT], list_size: int = 100) -> list[ResponseT | ApiError]:
        """The answers to many requests, in order. A refused request has its error in its place."""
        found: list[ResponseT | ApiError] = []
        for part in calls.slices(requests, list_size):
            found += calls.items_of(await self._send(calls.predict_call(part)), len(part))
        return found

    @asynccontextmanager
    async def stream(self, request: RequestT, form: Form = "events") -> AsyncIterator[AsyncPieceReader[PieceT]]:
        """The answer in pieces, inside an `async with` block. Who leaves the block ends the model's work."""
        response = await self._send(calls.stream_call(request, form), stream=True)
        try:
            calls.check_streamed(response, form)
            yield AsyncPieceReader(response, form)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def upload(self, file: str | Path | bytes) -> UploadRef:
        """Send a file to the bucket that is too large for a body. The result stands for it in requests, for a day."""
        content = file if isinstance(file, bytes) else Path(file)
        size = calls.size_of(content)
        form = calls.UploadForm.of(calls.value_of(await self._send(calls.UPLOAD)))
        form.check(size)
        await self._retried(lambda: self._send_file(form, content))
        return {"upload": form.upload}

    async def health(self) -> dict[str, Any]:
        """Which release answers, and since when."""
        found: dict[str, Any] = calls.value_of(await self._send(calls.HEALTH))
        return found

    async def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the API."""
        found: dict[str, Any] = calls.value_of(await self._send(calls.DOCUMENT))
        return found

    async def _send(self, call: Call, stream: bool = False) -> httpx2.Response:
        """The successful response to a call, after retries; with its body read, unless it is streamed."""
        return await self._retried(lambda: self._try(call, stream))

    async def _retried(self, once: Callable[[], Awaitable[Result]]) -> Result:
        tries = Tries(self._budget)
        while True:
            try:
                return await once()
            except ModelServiceError as error:
                pause = tries.pause(error)
            await anyio.sleep(pause)

    async def _try(self, call: Call, stream: bool) -> httpx2.Response:
        with calls.naming(self._url):
            response = await self._http.send(self._request(self._http, call), auth=self._auth, stream=True)
            if not stream or not response.is_success:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
        if not response.is_success:
            raise calls.failure(response)
        self._budget.answered()
        return response

    async def _send_file(self, form: calls.UploadForm, content: Path | bytes) -> None:
        with ExitStack() as stack, calls.naming(form.url):
            sent = content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            form.done(await self._http.post(form.url, data=form.fields, files={"file": sent}))
