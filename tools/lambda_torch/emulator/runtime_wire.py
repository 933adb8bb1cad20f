"""HTTP/1.1 for the local Runtime API, on httptools (the parser of Node.js).

A server library would be shorter, but aiohttp and uvicorn drop the trailers of a chunked request. A runtime that fails
in the middle of a streamed answer says so in trailers.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

import httptools

# The only client is the function's runtime. It sends short lines.
_HEAD_LIMIT = 65_536


class Receiver(Protocol):
    """Takes the body of one request as it arrives."""

    def feed(self, data: bytes) -> None:
        """Take a part of the body."""

    def end(self, trailers: dict[str, str]) -> None:
        """The body is complete. Names of trailers are in lower case."""

    def lost(self) -> None:
        """The connection has ended before the body was complete, or before the request was answered."""


Dispatch = Callable[["Connection", str, str, dict[str, str]], Receiver]


class Connection(asyncio.Protocol):
    """One connection of the function's runtime.

    Args:
        dispatch: gets this connection, the method, the path and the headers (names in lower case) of each request, and
            gives what takes its body.
        opened: the open connections; this one is in the set while it is open.
    """

    def __init__(self, dispatch: Dispatch, opened: set["Connection"]) -> None:
        self._dispatch = dispatch
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._receiver: Receiver | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._trailers: dict[str, str] | None = None  # not None once the headers are complete
        self._head_bytes = 0

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The runtime has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # An exception of a method below arrives as the cause of the parser's own.
            self.respond(HTTPStatus.BAD_REQUEST, {}, str(error.__context__ or error).encode(), close=True)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self._opened.discard(self)
        self._transport = None
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost()

    # What httptools calls

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._receiver is not None:
            raise ValueError("a request came before the answer to the one before")
        self._begin()

    def on_url(self, url: bytes) -> None:
        """A part of the path has arrived."""
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived, or after the body a trailer."""
        self._count(len(name) + len(value))
        found = self._headers if self._trailers is None else self._trailers
        found[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._trailers = {}
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        method, path = self._parser.get_method().decode(), self._url.decode("latin-1")
        self._receiver = self._dispatch(self, method, path, self._headers)

    def on_body(self, data: bytes) -> None:
        """A part of the body has arrived. A chunk is at least one part."""
        if self._receiver is not None:
            self._receiver.feed(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._receiver is not None:
            self._receiver.end(self._trailers or {})

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _HEAD_LIMIT:
            raise ValueError(f"the head of a request has more than {_HEAD_LIMIT} bytes")

    # What the Runtime API calls

    def respond(self, status: HTTPStatus, headers: dict[str, str], body: bytes, *, close: bool = False) -> None:
        """Answer the request. Then the next one may come, unless the connection is to be closed."""
        self._receiver = None
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if close else []), "\r\n"]
        self._transport.write("\r\n".join(lines).encode("utf-8") + body)
        if close:
            self._transport.close()

    def pause(self) -> None:
        """Take no more of the body for now. The runtime's writing stops when the system's buffers are full."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on with the body."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once. The runtime's next writing fails."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()
