"""Children that never outlive the run: each in a session of its own, ended together, and by a guardian if need be.

A session holds a child and all that it starts, even where these leave its process group, as the function's process does. It also
keeps the terminal's Ctrl-C away from the children, so that the run ends them in its own order.
"""

import collections
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lambda_torch.emulator import guardian
from lambda_torch.errors import EmulatorError

TAIL_LINES = 60
END_SECONDS = 5.0

LineSink = Callable[[str], None]


class Child:
    """A running child. Its output goes line by line to `on_line`; the last lines are kept for error messages."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", on_line: LineSink | None) -> None:
        self.name = name
        self.process = process
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._on_line = on_line
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for raw in output:
                line = raw.rstrip("\n")
                self._tail.append(line)
                if self._on_line is not None:
                    self._on_line(line)

    @property
    def alive(self) -> bool:
        """Whether the child itself (not what it started) still runs."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The last lines of output."""
        return "\n".join(list(self._tail))

    def wait_listening(self, port: int, seconds: float, host: str = "127.0.0.1") -> None:
        """Wait until the child accepts connections on a port.

        Raises:
            EmulatorError: it ended first, or it does not listen in time; with the last lines of its output.
        """
        end = time.monotonic() + seconds
        while self.alive:
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
                return
            if time.monotonic() > end:
                raise EmulatorError(f"{self.name} does not listen on port {port} after {seconds:g} s.\n{self.tail()}")
            time.sleep(0.02)
        self._reader.join(timeout=1)
        raise EmulatorError(f"{self.name} ended with status {self.process.returncode} at its start.\n{self.tail()}")

    def stop(self) -> None:
        """End the child in its own way, and then whatever is left of its session. Safe to call again."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        guardian.kill_session(self.process.pid)
        self.process.wait()
        self._reader.join(timeout=1)


class Processes:
    """The children of a run; a context manager that ends them all.

    >>> with Processes() as processes:
    ...     child = processes.start("echo", ["echo", "hello"], {"PATH": "/usr/bin:/bin"}, Path("/"))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._closed = False
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guardian.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        on_line: LineSink | None = None,
    ) -> Child:
        """Start a child with exactly this environment, working in `folder`.

        Raises:
            EmulatorError: it cannot be executed, or the run is ending.
        """
        with self._lock:
            if self._closed:
                raise EmulatorError(f"{name} is not started: the run is ending.")
            try:
                process = subprocess.Popen(
                    list(arguments),
                    env=dict(environment),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise EmulatorError(f"{name} cannot be started: {error}") from error
            child = Child(name, process, on_line)
            self._children.append(child)
            self._tell_guardian(f"+{process.pid}")
        return child

    def stop(self, child: Child) -> None:
        """End one child and forget it."""
        child.stop()
        with self._lock:
            if child in self._children:
                self._children.remove(child)
                self._tell_guardian(f"-{child.process.pid}")

    def _tell_guardian(self, line: str) -> None:
        assert self._guardian.stdin is not None
        # A guardian that is gone protects no longer, but that is no reason to fail the run.
        with contextlib.suppress(OSError, ValueError):
            self._guardian.stdin.write(line + "\n")
            self._guardian.stdin.flush()

    def close(self) -> None:
        """End all children at the same time, then the guardian."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        threads = [threading.Thread(target=self.stop, args=(child,)) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self._guardian.stdin is not None
        with contextlib.suppress(OSError):
            self._guardian.stdin.close()
        self._guardian.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def free_port() -> int:
    """A loopback port that nobody listens on now. Whoever binds it next may find it taken: be ready to ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
