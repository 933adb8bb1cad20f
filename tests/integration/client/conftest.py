"""A running service, and what stands between it and a client."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from browser.conftest import command

READER = Path(__file__).with_name("reader")


@pytest.fixture(scope="session")
def reader_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the reader, as `lambda-torch serve` runs it."""
    release = tmp_path_factory.mktemp("release")
    (release / "labels.json").write_text("[]")
    with command("--model", str(READER), "--release", str(release)) as address:
        yield address


class Gate:
    """Stands before the service: gives the answers of a list first, and then the service's own.

    Attributes:
        script: status, headers and body of the next answers; a status of 0 closes the connection without a word.
        seen: what arrived: the request's line, its headers and its body.
    """

    def __init__(self, behind: str) -> None:
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                gate.seen.append((f"{self.command} {self.path}", dict(self.headers), body))
                if gate.script:
                    status, headers, said = gate.script.pop(0)
                else:
                    kept = {"accept": self.headers["accept"], "content-type": self.headers["content-type"]}
                    answer = requests.post(f"{behind}/predict", data=body, headers=kept, timeout=60)
                    status, headers, said = (
                        answer.status_code,
                        {"content-type": answer.headers["content-type"]},
                        answer.content,
                    )
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gate(reader_url: str) -> Iterator[Gate]:
    """A gate before the reader."""
    made = Gate(reader_url)
    yield made
    made.close()
