"""Lambda's Runtime API for one function process: the process asks for the next event and sends its answer.

Source: "Using the Lambda runtime API", and for streamed answers the trailers and modes of AWS's own runtime clients.
"""

import asyncio
import base64
import binascii
import json
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from lambda_torch.emulator.answer_stream import AnswerStream
from lambda_torch.emulator.function import InvokeResult
from lambda_torch.emulator.runtime_wire import Connection, Receiver

# What AWS's emulator accepts, a little more than the documented limit.
RESPONSE_LIMIT = 6 * 1024 * 1024 + 100
# An error has a stack trace, and no more.
ERROR_LIMIT = 1_048_576

# A process closes its connections before its end is known.
END_SECONDS = 0.5

_PREFIX = "/2018-06-01/runtime/"
_ANSWER = re.compile(r"invocation/([^/]+)/(response|error)")
_ACCEPTED = b'{"status":"OK"}\n'


@dataclass
class Delivery:
    """One event on its way through the function process.

    Attributes:
        client_context: the base64 text of Lambda's `X-Amz-Client-Context`.
        trace: Lambda's trace id.
        answer: set once, by the Runtime API or by the end of the process.
        stream: the answer, if the function streams it.
    """

    event: bytes
    client_context: str | None
    answer: "asyncio.Future[InvokeResult | AnswerStream]"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    stream: AnswerStream | None = None

    def settle(self, answer: InvokeResult | AnswerStream) -> None:
        """Give the answer, if there is none yet."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, kind: str, message: str) -> None:
        """Give a failure. A streamed answer that has begun is broken."""
        self.settle(InvokeResult.failure(kind, message))
        if self.stream is not None:
            self.stream.fail(kind, message)


class RuntimeApi:
    """The Runtime API on a free port, for one process. For one event loop.

    Args:
        arn: of the function.
        timeout_seconds: of an invocation; the process reads its deadline.
        on_init_error: called with the error as JSON if the process cannot initialise.
        on_delivered: called when the process has taken an event.
        on_next: called when the process waits for an event, whether one follows at once or not.
    """

    def __init__(
        self,
        arn: str,
        timeout_seconds: int,
        on_init_error: Callable[[bytes], None],
        on_delivered: Callable[[Delivery], None],
        on_next: Callable[[], None],
    ) -> None:
        self._arn = arn
        self._timeout_seconds = timeout_seconds
        self._on_init_error = on_init_error
        self._on_delivered = on_delivered
        self._on_next = on_next
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._asking: Connection | None = None
        self.current: Delivery | None = None
        """What the process has taken. None while it waits for an event."""
        self.queued: Delivery | None = None
        """What it gets as soon as it asks."""

    async def open(self, host: str = "127.0.0.1") -> int:
        """Listen on an address of this machine. Returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._dispatch, self._connections), host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def offer(self, delivery: Delivery) -> None:
        """Give the process this event now, or as soon as it asks."""
        self.queued = delivery
        self._deliver()

    def _deliver(self) -> None:
        connection, delivery = self._asking, self.queued
        if connection is None or delivery is None:
            return
        self._asking, self.queued, self.current = None, None, delivery
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": delivery.id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._timeout_seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self._arn,
            "Lambda-Runtime-Trace-Id": _trace_id(),
        }
        context = _client_context(delivery.client_context)
        if context is not None:
            headers["Lambda-Runtime-Client-Context"] = context
        connection.respond(HTTPStatus.OK, headers, delivery.event)
        self._on_delivered(delivery)

    # Requests of the process

    def _dispatch(self, connection: Connection, method: str, path: str, headers: dict[str, str]) -> Receiver:
        route = path.removeprefix(_PREFIX) if path.startswith(_PREFIX) else ""
        answered = _ANSWER.fullmatch(route)
        if method == "GET" and route == "invocation/next":
            return _Asks(self, connection)
        if method == "GET" and route == "restore/next":
            return _Restores(connection)
        if method == "POST" and answered is not None:
            return self._answers(connection, answered[1], answered[2], headers)
        if method == "POST" and route in ("init/error", "restore/error"):
            return _Collects(connection, ERROR_LIMIT, lambda body, _: self._failed_start(connection, body))
        return _Refused(connection, HTTPStatus.NOT_FOUND, "NotFound", f"There is no {method} {path[:200]}")

    def _answers(self, connection: Connection, number: str, kind: str, headers: dict[str, str]) -> Receiver:
        delivery = self.current
        if delivery is None or delivery.id != number:
            return _Refused(connection, HTTPStatus.BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
        if delivery.answer.done():
            message = "The answer to this event was given before"
            return _Refused(connection, HTTPStatus.FORBIDDEN, "InvalidStateTransition", message)
        if kind == "error":
            return _Collects(connection, ERROR_LIMIT, lambda body, _: _settle(connection, delivery, body, failed=True))
        if headers.get("lambda-runtime-function-response-mode", "").lower() == "streaming":
            return _Streams(connection, delivery, headers.get("content-type", "application/octet-stream"))
        return _Collects(
            connection, RESPONSE_LIMIT, lambda body, whole: _respond(connection, delivery, body, whole=whole)
        )

    def _failed_start(self, connection: Connection, body: bytes) -> None:
        connection.respond(HTTPStatus.ACCEPTED, {"Content-Type": "application/json"}, _ACCEPTED)
        self._on_init_error(body)

    def asks(self, connection: Connection) -> None:
        """The process asks for the next event."""
        if self.current is not None and not self.current.answer.done():
            _refuse(connection, HTTPStatus.FORBIDDEN, "InvalidStateTransition", "The event before has no answer yet")
            return
        self.current = None
        self._asking = connection
        self._on_next()
        self._deliver()

    def asks_no_more(self, connection: Connection) -> None:
        """The connection ended while the process waited for an event."""
        if self._asking is connection:
            self._asking = None


def _settle(connection: Connection, delivery: Delivery, body: bytes, *, failed: bool) -> None:
    delivery.settle(InvokeResult(body, failed))
    connection.respond(HTTPStatus.ACCEPTED, {"Content-Type": "application/json"}, _ACCEPTED)


def _respond(connection: Connection, delivery: Delivery, body: bytes, *, whole: bool) -> None:
    if whole:
        _settle(connection, delivery, body, failed=False)
        return
    limit = f"exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."
    delivery.fail("Function.ResponseSizeTooLarge", f"Response payload size {limit}")
    _refuse(connection, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", limit.capitalize())


def _refuse(connection: Connection, status: HTTPStatus, kind: str, message: str) -> None:
    body = json.dumps({"errorMessage": message, "errorType": kind}).encode() + b"\n"
    connection.respond(status, {"Content-Type": "application/json"}, body)


def _trace_id() -> str:
    """A trace that nobody samples, in X-Ray's form."""
    return f"Root=1-{int(time.time()):08x}-{random.getrandbits(96):024x};Parent={random.getrandbits(64):016x};Sampled=0"


def _client_context(text: str | None) -> str | None:
    """The client's context as JSON. As on Lambda, what is not base64 of JSON does not arrive."""
    if text is None:
        return None
    try:
        return json.dumps(json.loads(base64.b64decode(text, validate=True)))  # ASCII, as a header has to be
    except (binascii.Error, ValueError):
        return None


class _Asks:
    def __init__(self, api: RuntimeApi, connection: Connection) -> None:
        self._api, self._connection = api, connection

    def feed(self, data: bytes) -> None:
        """A GET has no body."""

    def end(self, trailers: dict[str, str]) -> None:
        """The request is complete: it waits for an event."""
        self._api.asks(self._connection)

    def lost(self) -> None:
        """The process has gone."""
        self._api.asks_no_more(self._connection)


class _Restores:
    """Lambda answers when a copy of the snapshot starts. Here no snapshot is taken, and the copy starts at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def feed(self, data: bytes) -> None:
        """A GET has no body."""

    def end(self, trailers: dict[str, str]) -> None:
        """The process is restored."""
        self._connection.respond(HTTPStatus.OK, {"Content-Type": "application/json"}, b"")

    def lost(self) -> None:
        """Nothing waits for the process."""


class _Refused:
    def __init__(self, connection: Connection, status: HTTPStatus, kind: str, message: str) -> None:
        self._connection, self._status, self._kind, self._message = connection, status, kind, message

    def feed(self, data: bytes) -> None:
        """The body is not read."""

    def end(self, trailers: dict[str, str]) -> None:
        """The process learns why."""
        _refuse(self._connection, self._status, self._kind, self._message)

    def lost(self) -> None:
        """Nothing waits for the process."""


class _Collects:
    """Collects a body up to a limit. `then` gets it, and whether it is whole."""

    def __init__(self, connection: Connection, limit: int, then: Callable[[bytes, bool], None]) -> None:
        self._connection, self._limit, self._then = connection, limit, then
        self._body = bytearray()
        self._whole = True

    def feed(self, data: bytes) -> None:
        """Keep a part. What is over the limit is read and dropped, so that the process can read its refusal."""
        self._whole = self._whole and len(self._body) + len(data) <= self._limit
        if self._whole:
            self._body += data

    def end(self, trailers: dict[str, str]) -> None:
        """The body is complete."""
        self._then(bytes(self._body), self._whole)

    def lost(self) -> None:
        """The process ended while it wrote; the end of the process is the failure."""


class _Streams:
    """Passes on a streamed answer."""

    def __init__(self, connection: Connection, delivery: Delivery, content_type: str) -> None:
        self._connection = connection
        self._stream = delivery.stream = AnswerStream(
            content_type, connection.pause, connection.resume, connection.abort
        )
        delivery.settle(self._stream)

    def feed(self, data: bytes) -> None:
        """Pass on a piece."""
        self._stream.feed(data)

    def end(self, trailers: dict[str, str]) -> None:
        """The answer is complete, or the function told of an error. Runtimes expect the connection to be closed."""
        self._stream.end(trailers)
        self._connection.respond(HTTPStatus.ACCEPTED, {"Content-Type": "application/json"}, _ACCEPTED, close=True)

    def lost(self) -> None:
        """The process closed the connection before the end. If the process itself has ended, that is the reason."""
        message = "the function ended its answer before the last piece"
        asyncio.get_running_loop().call_later(END_SECONDS, self._stream.fail, "Runtime.TruncatedResponse", message)
