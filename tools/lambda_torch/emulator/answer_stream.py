"""An answer that a function streams: a prelude with status and headers, and pieces as they are made.

Source: "Lambda-Runtime-Function-Response-Mode" in AWS's runtime clients, and "Set up response streaming" of API Gateway
for the prelude.
"""

import asyncio
import base64
import binascii
import collections
import json
from collections.abc import Callable
from typing import Any

HTTP_TYPE = "application/vnd.awslambda.http-integration-response"
SEPARATOR = bytes(8)
PRELUDE_LIMIT = 16_384  # the same page: "the first 16 KB"
STREAM_LIMIT = 209_715_200  # "Lambda quotas": the largest streamed payload, bytes

# Pieces that wait for a slow client. Above the first figure, the function's writing is held until the second is reached.
_HIGH_BYTES = 65_536
_LOW_BYTES = 16_384


class BrokenStreamError(Exception):
    """The streamed answer has ended before its time. `kind` is the type of the error, as in a function's failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind


class AnswerStream:
    """A streamed answer on its way from the function to one reader. For one event loop.

    Args:
        content_type: of the function's request to the Runtime API. With `HTTP_TYPE`, a prelude comes first.
        pause, resume: hold the function's writing, and let it go on.
        drop: ends the function's connection.
    """

    def __init__(
        self, content_type: str, pause: Callable[[], None], resume: Callable[[], None], drop: Callable[[], None]
    ) -> None:
        self.has_prelude = content_type.partition(";")[0].strip().lower() == HTTP_TYPE
        self.content_type = content_type
        self.prelude: bytes | None = None if self.has_prelude else b"{}"
        self._pause, self._resume, self._drop = pause, resume, drop
        self._pieces: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._total_bytes = 0
        self._held = False
        self._error: BrokenStreamError | None = None
        self._ended = False
        self._closed = False
        self._head = b""
        self._changed: asyncio.Future[None] | None = None
        self.sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the function's side is over. Whether the function finished it, so that it is free again soon."""

    # The function's side

    def feed(self, data: bytes) -> None:
        """Take what the function wrote."""
        if self._ended:
            return
        self._total_bytes += len(data)
        if self._total_bytes > STREAM_LIMIT:
            self.fail("Function.ResponseSizeTooLarge", f"the streamed answer has more than {STREAM_LIMIT} bytes")
            self._drop()
            return
        if self.prelude is None:
            data = self._read_prelude(data)
        if data:
            self._pieces.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _HIGH_BYTES and not self._held:
                self._held = True
                self._pause()
        self._wake()

    def _read_prelude(self, data: bytes) -> bytes:
        self._head += data
        head, separator, rest = self._head.partition(SEPARATOR)
        if separator:
            self.prelude, self._head = head, b""
            return rest
        if len(self._head) > PRELUDE_LIMIT:
            self.fail("Runtime.InvalidPrelude", f"no separator in the first {PRELUDE_LIMIT} bytes")
            self._drop()
        return b""

    def end(self, trailers: dict[str, str]) -> None:
        """The function has finished. Trailers tell of an error."""
        kind = trailers.get("lambda-runtime-function-error-type")
        if self._error is None and kind is not None:
            self._error = BrokenStreamError(kind, _trailer_text(trailers.get("lambda-runtime-function-error-body", "")))
        elif self._error is None and self.prelude is None:
            self._error = BrokenStreamError("Runtime.InvalidPrelude", "the answer has no separator after its prelude")
        self._over(finished=True)

    def fail(self, kind: str, message: str) -> None:
        """Break the answer, unless it is complete."""
        if not self._ended:
            self._error = BrokenStreamError(kind, message)
            self._over(finished=False)

    def _over(self, *, finished: bool) -> None:
        self._ended = True
        if not self.sent.done():
            self.sent.set_result(finished)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # The reader's side

    async def _wait(self) -> None:
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    async def read_prelude(self) -> Any:
        """Wait for the prelude and give it as an object. Without one, an empty object.

        Raises:
            BrokenStreamError: the answer ended before, or the prelude is not JSON.
        """
        while self.prelude is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        try:
            return json.loads(self.prelude)
        except ValueError as error:
            raise BrokenStreamError("Runtime.InvalidPrelude", f"the prelude is not JSON: {error}") from error

    async def piece(self) -> bytes:
        """Wait for the next piece. Empty bytes at the end.

        Raises:
            BrokenStreamError: the function ended, or told of an error. The pieces before came first.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._wait()
        data = self._pieces.popleft()
        self._waiting_bytes -= len(data)
        if self._held and self._waiting_bytes < _LOW_BYTES:
            self._held = False
            self._resume()
        return data

    async def joined(self) -> bytes:
        """The whole answer as Lambda's Invoke API gives it: prelude, separator and pieces."""
        parts = []
        while part := await self.piece():
            parts.append(part)
        head = [self.prelude or b"", SEPARATOR] if self.has_prelude else []
        return b"".join([*head, *parts])

    def close(self) -> None:
        """The reader is gone. If the function still writes, its connection is ended, so that its next writing fails."""
        if not self._closed:
            self._closed = True
            self._pieces.clear()
            if not self._ended:
                self.fail("Client.Gone", "the client has gone")
                self._drop()


def _trailer_text(value: str) -> str:
    """The error in a trailer: base64 of a JSON object with `errorMessage`. Other text is given as it is."""
    try:
        text = base64.b64decode(value, validate=True).decode()
        error = json.loads(text)
    except (binascii.Error, UnicodeDecodeError):
        return value[:1000]
    except ValueError:
        return text[:1000]
    return str(error.get("errorMessage", ""))[:1000] if isinstance(error, dict) else text[:1000]
