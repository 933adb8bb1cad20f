"""Connections that end at a deadline, over TLS: a server whose answer comes byte by byte inside of TLS records."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.storage.connection import BoundedConnection
from serving.storage.deadline import Deadline

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


class TlsServer:
    """Answers each connection once. `pause` is the seconds between two bytes; None never answers the handshake."""

    def __init__(self, certificate: Path) -> None:
        self.pause: float | None = 0.0
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted: socket.socket) -> None:
        if self.pause is None:
            time.sleep(60)
        try:
            with self._tls.wrap_socket(accepted, server_side=True) as opened:
                opened.recv(65536)
                for position in range(len(ANSWER)):
                    opened.sendall(ANSWER[position : position + 1])
                    time.sleep(self.pause or 0.0)
        except OSError:
            """The client hung up."""


@pytest.fixture
def server(certificate: Path) -> Iterator[TlsServer]:
    """The server."""
    server = TlsServer(certificate)
    yield server
    server.listener.close()


@pytest.mark.parametrize("pause", [0.0, 0.2, None], ids=["whole", "byte by byte", "no handshake"])
def test_the_deadline_holds_over_tls(server: TlsServer, certificate: Path, pause: float | None) -> None:
    """Over TLS an answer is read, and one that does not come in time is a timeout, in the handshake and after it."""
    server.pause = pause
    connection = BoundedConnection(server.url, ssl.create_default_context(cafile=certificate))
    headers = {"host": "127.0.0.1"}
    if pause == 0.0:
        assert connection.get("/", headers, Deadline(30)).read() == b"ok"
    else:
        with pytest.raises(TimeoutError):
            connection.get("/", headers, Deadline(0.5))
        assert connection.sock is None
    connection.close()
