"""An HTTP proxy in front of the S3 API that fails on demand, as networks and services do."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes:
        refuse: the connection is reset before anything is answered.
        status: S3's own error instead of the answer, for example 503.
        cut: the connection is reset after so many bytes of the body.
        delay: seconds before the answer begins.
        flip: the byte at this position of the body is changed.
        skew: seconds that are added to the answer's Date.
        lost: the request is carried out, and the connection is reset instead of an answer.
        stall: seconds without a byte, after half of the body.
        drip: the body comes byte by byte, with so many seconds between them.
        drip_head: the same for the status line and the headers.
        continues: the answer is `100 Continue`, again and again, with so many seconds between them.
    """

    refuse: bool = False
    status: int | None = None
    cut: int | None = None
    delay: float = 0.0
    flip: int | None = None
    skew: float = 0.0
    lost: bool = False
    stall: float = 0.0
    drip: float = 0.0
    drip_head: float = 0.0
    continues: float = 0.0


class FaultyProxy:
    """Forwards to an S3 API; `fault` decides, for a method and a path, what goes wrong (None: nothing)."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self.answered: list[tuple[str, int]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.handle(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (names of http.server)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that hangs up is part of the test."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Forward one request, with its fault."""
        self.seen.append((request.command, request.path))
        fault = self.fault(request.command, request.path) or Fault()
        if fault.refuse:
            return _reset(request)
        time.sleep(fault.delay)
        if fault.status is not None:
            body = b"<Error><Code>ServiceUnavailable</Code><Message>Please reduce your request rate.</Message></Error>"
            return _answer(request, fault.status, [("Content-Type", "application/xml")], body, fault)
        length = int(request.headers.get("Content-Length", 0))
        upstream = http.client.HTTPConnection(str(self.upstream.hostname), self.upstream.port, timeout=30)
        try:
            upstream.request(request.command, request.path, request.rfile.read(length), dict(request.headers))
            response = upstream.getresponse()
            content = bytearray(response.read())
            if fault.flip is not None and content:
                content[fault.flip] ^= 1
            headers = [
                (k, v) for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding", "date")
            ]
            if fault.skew:
                headers.append(
                    ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + fault.skew)))
                )
            self.answered.append((request.path, response.status))
            if fault.lost:
                return _reset(request)
            return _answer(request, response.status, headers, bytes(content), fault)
        finally:
            upstream.close()


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault
) -> None:
    while fault.continues:
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(fault.continues)
    request.send_response_only(status)
    for name, value in headers:
        if name.lower() != "content-length" or request.command == "HEAD":
            request.send_header(name, value)
    if request.command != "HEAD":
        request.send_header("Content-Length", str(len(body)))
    if fault.drip_head:
        head, request._headers_buffer = b"".join([*request._headers_buffer, b"\r\n"]), []  # type: ignore[attr-defined]
        _drip(request, head, fault.drip_head)
    else:
        request.end_headers()
    if request.command == "HEAD":
        return
    body, whole = body[: fault.cut], len(body)
    if fault.drip:
        _drip(request, body, fault.drip)
    elif fault.stall:
        request.wfile.write(body[: len(body) // 2])
        time.sleep(fault.stall)
        request.wfile.write(body[len(body) // 2 :])
    else:
        request.wfile.write(body)
    if len(body) < whole:
        _reset(request)


def _drip(request: BaseHTTPRequestHandler, content: bytes, seconds: float) -> None:
    for position in range(len(content)):
        request.wfile.write(content[position : position + 1])
        time.sleep(seconds)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """End the connection with a TCP reset, as a crashed peer does."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()
