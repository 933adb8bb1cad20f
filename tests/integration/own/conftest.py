"""Projects of the user's own, made and used by the commands as a user would, each in a process of its own."""

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("lambda-torch"))
PATIENCE = 240.0


def environment() -> dict[str, str]:
    """No AWS account, and one thread: the models are small."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAMBDA_TORCH", "PYTHON"))}
    return {**own, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(
    folder: Path, *words: str | Path, status: int = 0, more: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run lambda-torch in a folder, and check its exit status."""
    done = subprocess.run(
        [COMMAND, *map(str, words)],
        cwd=folder,
        env={**environment(), **(more or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def checked(folder: Path, status: int = 0) -> dict[str, dict[str, str]]:
    """What `check` says, by the names of its ticks."""
    said = json.loads(run(folder, "check", "--json", status=status).stdout)
    assert said["ok"] is (status == 0)
    return {each["name"]: each for each in said["checks"]}


class Served:
    """A running `lambda-torch serve`: its address, and the lines that it has printed."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.lines: list[str] = []
        self.url = ""
        self._child = child
        self._queue: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                self._queue.put(line.rstrip("\n"))

    def wait(self, wanted: Callable[[str], bool]) -> str:
        """The next line of which this is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                line = self._queue.get(timeout=0.2)
            except queue.Empty:
                assert self._child.poll() is None, "\n".join(self.lines)
                continue
            if wanted(line):
                return line
        raise AssertionError("\n".join(self.lines))

    def ask(self, body: bytes, content_type: str = "application/json") -> Any:
        """The answer to a request, as JSON."""
        request = urllib.request.Request(f"{self.url}/predict", body, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def release(self) -> str:
        """The release that serves."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=60) as answer:
            return str(json.loads(answer.read())["release"])

    def until(self, release: str) -> None:
        """Wait until this release serves."""
        end = time.monotonic() + 60
        while self.release() != release:
            assert time.monotonic() < end
            time.sleep(0.2)

    def publish_words(self) -> tuple[list[str], dict[str, str]]:
        """The options of publish that serve has printed, and its variables."""
        (number,) = (n for n, line in enumerate(self.lines) if line.startswith("To publish a release here"))
        words = shlex.split(self.lines[number + 1])
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        return words[words.index("--bucket") :], variables


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """Run `lambda-torch serve` in a folder while the block lasts."""
    child = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", "--layer", "stock", "--env", "REFRESH_SECONDS=1", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Served(child)
    try:
        running.url = running.wait(lambda line: line.startswith("curl ")).rpartition(" ")[2].removesuffix("/predict")
        yield running
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)
        running._thread.join(10)
