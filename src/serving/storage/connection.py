"""HTTP connections on which every step ends at a deadline: connect, TLS, the status line, headers and body.

`http.client` has one timeout for each read of the socket, so a header that comes byte by byte has no bound. Here the
reader below `http.client`'s buffer sets the socket's timeout to what is left before each read. For TLS this is enough:
the `ssl` module counts a timeout over the whole handshake, and over all parts of a record.
"""

import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from serving.storage.deadline import TICK_SECONDS, Deadline
from serving.storage.objects import CONNECT_SECONDS, READ_SECONDS, NotConnectedError


class BoundedConnection(http.client.HTTPConnection):
    """A connection for GETs, one after the other. The first one opens it.

    Args:
        base: scheme and host, for example `https://bucket.s3.eu-west-1.amazonaws.com`.
        tls: for https; None for http.
    """

    def __init__(self, base: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(urlsplit(base).netloc)
        self._tls = tls
        self._address = urlsplit(base).hostname or "", urlsplit(base).port or (443 if tls else 80)

    def get(self, path: str, headers: Mapping[str, str], deadline: Deadline) -> "BoundedResponse":
        """Send a GET, and read status and headers until the deadline. `headers` has the host, since it may be signed.

        Raises:
            OSError, http.client.HTTPException: the network failed, or the time is over. The connection is closed then.
        """
        try:
            if self.sock is None:
                self.sock = self._open(deadline)
            self.sock.settimeout(deadline.wait(READ_SECONDS))
            self.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                self.putheader(name, value)
            self.endheaders()
            self.response_class = functools.partial(BoundedResponse, deadline)  # type: ignore[assignment]
            return cast("BoundedResponse", self.getresponse())
        except BaseException:
            self.close()
            raise

    def _open(self, deadline: Deadline) -> socket.socket:
        """Try each address of the host in turn. All of them share the time."""
        host, port = self._address
        # By the clock on the wall: the system's own waits are not cut into pieces here.
        budget = Deadline(min(CONNECT_SECONDS, deadline.remaining), time.monotonic)
        problem, is_reached = OSError("it has no address"), False
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            addresses, problem = [], error
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(budget.wait(CONNECT_SECONDS))
                opened.connect(address)
                is_reached = True
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._tls.wrap_socket(opened, server_hostname=host) if self._tls else opened
            except OSError as error:
                opened.close()
                problem = error
        if is_reached:
            raise problem
        raise NotConnectedError(f"no connection to {host}: {problem or type(problem).__name__}") from problem


class BoundedResponse(http.client.HTTPResponse):
    """An answer. Its status, headers and body are read until the deadline of its `source`."""

    def __init__(self, deadline: Deadline, sock: socket.socket, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.source = BoundedSource(sock, deadline)
        self.fp.close()
        self.fp = io.BufferedReader(self.source)


class BoundedSource(io.RawIOBase):
    """The bytes of a socket. No wait for the next ones is longer than READ_SECONDS or passes the deadline.

    Attributes:
        deadline: it may be replaced between two reads.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.deadline = deadline
        self._sock = sock
        # Nothing is read from it. While it is open, a connection that is closed keeps its socket.
        self._holder = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """As `io.RawIOBase.readable`."""
        return True

    def readinto(self, buffer: memoryview, /) -> int | None:  # type: ignore[override]
        """As `io.RawIOBase.readinto`. Raises TimeoutError."""
        limit = self.deadline
        while True:
            self._sock.settimeout(limit.wait(TICK_SECONDS))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                if limit is self.deadline:
                    limit = self.deadline.within(READ_SECONDS)

    def close(self) -> None:
        """As `io.RawIOBase.close`. The connection stays open."""
        self._holder.close()
        super().close()
