"""The local Runtime API's HTTP: any cut of the bytes is the same request, and trailers arrive."""

import asyncio
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.emulator.runtime_wire import Connection


class Transport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += bytes(data)

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed


class Noting:
    """Notes requests, answers each with 202, and keeps bodies and trailers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.trailers: list[dict[str, str]] = []
        self.losses = 0
        self.transport = Transport()
        self.connection = Connection(self._dispatch, set())
        self.connection.connection_made(self.transport)

    def _dispatch(self, _connection: Connection, method: str, path: str, headers: dict[str, str]) -> "Noting":
        self.requests.append((method, path, dict(headers)))
        self.bodies.append(b"")
        return self

    def feed(self, data: bytes) -> None:
        """Keep a part."""
        self.bodies[-1] += data

    def end(self, trailers: dict[str, str]) -> None:
        """Answer."""
        self.trailers.append(trailers)
        self.connection.respond(HTTPStatus.ACCEPTED, {"X-Tag": "é"}, b"ok")

    def lost(self) -> None:
        """Count it."""
        self.losses += 1


def chunked(parts: list[bytes]) -> bytes:
    """A chunked body without its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 2000), max_size=10), st.booleans())
def test_a_chunked_request_survives_any_cut(parts: list[bytes], places: list[int], error: bool) -> None:
    """Path, headers, body and trailers of a streamed answer are the same wherever it is cut; the next request follows."""
    trailer = b"Lambda-Runtime-Function-Error-Type: Runtime.E\r\n" if error else b""
    data = b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += chunked(parts) + b"0\r\n" + trailer + b"\r\n" + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    noting = Noting()
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in pairwise(ends):
        noting.connection.data_received(data[start:end])
    assert [(method, path) for method, path, _ in noting.requests] == [
        ("POST", "/2018-06-01/runtime/invocation/1/response"),
        ("GET", "/next"),
    ]
    assert noting.bodies == [b"".join(parts), b""]
    assert noting.trailers == [{"lambda-runtime-function-error-type": "Runtime.E"} if error else {}, {}]
    assert noting.transport.written.count(b"HTTP/1.1 202 Accepted\r\n") == 2


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_closed_connection(data: bytes) -> None:
    """Bytes that are no HTTP end the connection with a 400, and never raise."""
    noting = Noting()
    noting.connection.data_received(data)
    noting.connection.connection_lost(None)
    refused = b"HTTP/1.1 400 Bad Request" in noting.transport.written
    assert refused == noting.transport.closed


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 70_000, b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"])
def test_an_endless_head_is_refused(head: bytes) -> None:
    """A head larger than its limit ends the connection."""
    noting = Noting()
    noting.connection.data_received(head)
    assert noting.transport.closed
    assert b"more than 65536 bytes" in noting.transport.written


def test_a_connection_that_is_lost_in_a_body_is_told() -> None:
    """Who takes a body learns that its end will not come; once it was answered, it does not."""
    noting = Noting()
    noting.connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\nabc")
    assert noting.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    noting.connection.connection_lost(None)
    assert noting.losses == 1
    answered = Noting()
    answered.connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
    answered.connection.connection_lost(None)
    assert answered.losses == 0
