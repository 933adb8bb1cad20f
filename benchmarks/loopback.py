"""Runs an S3 for benchmarks in a process of its own, so that the client's figures do not include the server.

`api` is moto's server: a whole S3 API that keeps everything in Python objects. `files` answers GET and HEAD, with
ranges, for the files of a folder. It sends them directly from the page cache (sendfile). moto would be the bottleneck
of a large download, and would keep the file in memory.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextlib.contextmanager
def serving(kind: str, *arguments: str) -> Iterator[str]:
    """Run `api` or `files FOLDER`. Gives its address."""
    command = [sys.executable, "-m", "benchmarks.loopback", kind, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class _Files(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.folder / self.path.partition("?")[0].rpartition("/")[2]
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = int(wanted[1]) if wanted else 0
            last = min(int(wanted[2] or size - 1), size - 1) if wanted else size - 1
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("ETag", f'"{hashlib.md5(str(path).encode()).hexdigest()}"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            position = first
            while body and position <= last:
                position += os.sendfile(self.connection.fileno(), file.fileno(), position, last + 1 - position)


def main(kind: str, *arguments: str) -> None:
    """Print the address, and serve."""
    if kind == "files":
        _Files.folder = Path(arguments[0])
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    api = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    api.start()
    host, port = api.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
