"""Lambda's Runtime API on a socket, which keeps every byte that the runtime sends and reads no faster than a test wants."""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

ARN = "arn:aws:lambda:us-east-1:123456789012:function:predict:live"
PATIENCE_SECONDS = 60


@dataclass
class Post:
    """One POST of the runtime, as it comes in.

    Attributes:
        path: of the request.
        headers: as lines, in their order.
        received: every byte after the headers so far.
    """

    connection: socket.socket
    path: str
    headers: list[str]
    received: bytes = b""

    @property
    def is_stream(self) -> bool:
        """Whether it says that it comes in chunks."""
        return "Transfer-Encoding: chunked" in self.headers

    def until(self, end: bytes) -> bytes:
        """All bytes so far, once they contain this."""
        while end not in self.received:
            self._more()
        return self.received

    def body(self) -> bytes:
        """A body of known length."""
        (length,) = (int(line.split(":")[1]) for line in self.headers if line.lower().startswith("content-length:"))
        while len(self.received) < length:
            self._more()
        return self.received

    def stream(self, end: bytes = b"\r\n0\r\n\r\n") -> "Stream":
        """All of a stream, read to its end and accepted."""
        found = parse(self.until(end))
        self.accept()
        return found

    def accept(self, status: str = "202 Accepted", body: bytes = b'{"status":"OK"}') -> None:
        """Answer it."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)

    def gone(self) -> bool:
        """Whether the runtime closed the connection, and sent nothing else before."""
        return self.connection.recv(1) == b""

    def _more(self) -> None:
        data = self.connection.recv(65536)
        assert data, self.received
        self.received += data

    def close(self) -> None:
        """Hang up, as where the client has gone."""
        # With what was not read yet the other side learns it at once.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.connection.close()


class RuntimeApi:
    """Gives events to a runtime, one at a time, and its posts to a test.

    Attributes:
        address: host and port.
        calls: method and path of every request, in their order.
    """

    def __init__(self, buffer: int | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        if buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self.calls: list[str] = []
        self._events: queue.Queue[tuple[dict[str, str], bytes] | None] = queue.Queue()
        self._posts: queue.Queue[Post] = queue.Queue()
        self._connections: list[socket.socket] = []
        self._numbers = iter(range(1, 1_000_000))
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def send(self, event: Any, seconds: float = 60, headers: Mapping[str, str] = MappingProxyType({})) -> str:
        """Give an event to the runtime. Returns its request id."""
        request_id = f"request-{next(self._numbers)}"
        known = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": f"Root=1-{request_id}",
        }
        self._events.put(({**known, **headers}, json.dumps(event).encode()))
        return request_id

    def post(self) -> Post:
        """The runtime's next POST."""
        return self._posts.get(timeout=PATIENCE_SECONDS)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (head := _head(connection)) is not None:
                line, *headers = head.decode().split("\r\n")
                method, path, _ = line.split(" ")
                self.calls.append(f"{method} {path}")
                if method == "POST":
                    post = Post(connection, path, headers)
                    if post.is_stream:
                        self._posts.put(post)
                        return  # the test reads the rest
                    post.body()
                    post.accept()
                    self._posts.put(post)
                elif path.endswith("/restore/next"):
                    Post(connection, path, headers).accept("200 OK", b"{}")
                else:
                    event = self._events.get()
                    if event is None:
                        return
                    _answer(connection, *event)


def _head(connection: socket.socket) -> bytes | None:
    """A request's line and headers, byte by byte, so that nothing of its body is taken; None at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return None
        head += byte
    return head[:-4]


def _answer(connection: socket.socket, headers: dict[str, str], body: bytes) -> None:
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append(f"Content-Length: {len(body)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


@dataclass(frozen=True)
class Stream:
    """A streamed answer, taken apart byte by byte.

    Attributes:
        chunks: the content of each chunk.
        prelude: the JSON before the eight NUL bytes.
        payload: what comes after them.
        trailers: the lines after the last chunk.
    """

    chunks: list[bytes]
    prelude: dict[str, Any]
    payload: bytes
    trailers: list[str]


def parse(received: bytes) -> Stream:
    """Take a finished stream apart. Every byte has to be where the wire has it (RFC 9112, section 7.1)."""
    chunks: list[bytes] = []
    rest = received
    while True:
        size, rest = _split(rest)
        length = int(size, 16)
        assert size == b"%x" % length
        if not length:
            break
        assert rest[length : length + 2] == b"\r\n"
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    lines: list[str] = []
    while True:
        line, rest = _split(rest)
        if not line:
            break
        lines.append(line.decode())
    assert rest == b""
    prelude, delimiter, payload = b"".join(chunks).partition(bytes(8))
    assert delimiter
    return Stream(chunks, json.loads(prelude), payload, lines)


def _split(data: bytes) -> tuple[bytes, bytes]:
    line, end, rest = data.partition(b"\r\n")
    assert end, data
    return line, rest


def pieces_of(payload: bytes) -> Iterator[tuple[str, Any]]:
    """The events of a body of server-sent events: name (empty for a piece) and data."""
    blocks = payload.decode().split("\n\n")
    assert blocks.pop() == ""
    for block in blocks:
        lines = block.split("\n")
        name = lines.pop(0).removeprefix("event: ") if lines[0].startswith("event: ") else ""
        (data,) = lines
        yield name, json.loads(data.removeprefix("data: "))
