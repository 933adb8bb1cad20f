"""Child processes that never outlive the run. Each has its own session, and a guardian ends them if the run cannot.

A session contains a child and all processes that it starts, even if these leave its process group, as the function's
process does. A session also keeps Ctrl-C away from the children, so that the run ends them in its own order.
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
PORT_TRIES = 3

LineSink = Callable[[str], None]
EndSink = Callable[[int], None]


class Child:
    """A running child process. The last lines of its output are kept for error messages.

    Args:
        on_line: gets each line of output, in a thread.
        on_end: gets the status of the process when it has ended, in a thread. A negative status is a signal's number.
    """

    def __init__(
        self,
        name: str,
        process: "subprocess.Popen[str]",
        on_line: LineSink | None = None,
        on_end: EndSink | None = None,
    ) -> None:
        self.name = name
        self.process = process
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._on_line = on_line
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()
        self._waiter: threading.Thread | None = None
        if on_end is not None:
            self._waiter = threading.Thread(target=self._wait, args=(on_end,), name=f"end of {name}", daemon=True)
            self._waiter.start()

    def _wait(self, on_end: EndSink) -> None:
        on_end(self.process.wait())

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
        """Whether the child itself still runs, not only a process that it started."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The last lines of output."""
        return "\n".join(list(self._tail))

    def wait_output(self) -> None:
        """Wait for the last lines of a child that has ended."""
        self._reader.join(timeout=1)

    def wait_listening(self, port: int, seconds: float, host: str = "127.0.0.1") -> None:
        """Wait until the child accepts connections on a port.

        Raises:
            EmulatorError: it ended, or it does not listen in time. The message has the last lines of its output.
        """
        end = time.monotonic() + seconds
        while self.alive:
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
                return
            if time.monotonic() > end:
                raise EmulatorError(f"{self.name} does not listen on port {port} after {seconds:g} s.\n{self.tail()}")
            time.sleep(0.02)
        self.wait_output()
        raise EmulatorError(f"{self.name} ended with status {self.process.returncode} at its start.\n{self.tail()}")

    def kill(self) -> None:
        """End the child's session at once."""
        guardian.kill_session(self.process.pid)

    def stop(self) -> None:
        """Ask the child to end, and then kill what is left of its session. A second call does nothing."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        guardian.kill_session(self.process.pid)
        self.process.wait()
        self._reader.join(timeout=1)
        if self._waiter is not None:
            self._waiter.join()


class Processes:
    """The child processes of a run, as a context manager that ends them all.

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
        on_end: EndSink | None = None,
    ) -> Child:
        """Start a child with exactly this environment, in `folder`.

        Raises:
            EmulatorError: it cannot be executed, or the run is ending.
        """
        with self._lock:
            if self._closed:
                raise EmulatorError(f"{name} is not started because the run is ending.")
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
            child = Child(name, process, on_line, on_end)
            self._children.append(child)
            self._tell_guardian(f"+{process.pid}")
        return child

    def start_listening(
        self,
        name: str,
        arguments: Callable[[int], Sequence[str]],
        environment: Mapping[str, str],
        folder: Path,
        on_line: LineSink | None = None,
        *,
        seconds: float,
        host: str = "127.0.0.1",
    ) -> tuple[Child, int]:
        """Start a child that listens on a free port, and wait until it does.

        Another program may take the port before the child does, so this tries several ports.

        Args:
            arguments: makes the command line for a port.
            seconds: how long to wait for each try.
            host: the address that the child listens on.

        Returns:
            The child and its port.

        Raises:
            EmulatorError: it cannot be executed, ended, or does not listen. The message has the last lines of its
                output.
        """
        for _ in range(PORT_TRIES - 1):
            with contextlib.suppress(EmulatorError):
                return self._try_listening(name, arguments, environment, folder, on_line, seconds, host)
        return self._try_listening(name, arguments, environment, folder, on_line, seconds, host)

    def _try_listening(
        self,
        name: str,
        arguments: Callable[[int], Sequence[str]],
        environment: Mapping[str, str],
        folder: Path,
        on_line: LineSink | None,
        seconds: float,
        host: str,
    ) -> tuple[Child, int]:
        port = free_port()
        child = self.start(name, arguments(port), environment, folder, on_line)
        try:
            child.wait_listening(port, seconds, host)
        except EmulatorError:
            self.stop(child)
            raise
        return child, port

    def stop(self, child: Child) -> None:
        """End one child and forget it."""
        child.stop()
        with self._lock:
            if child in self._children:
                self._children.remove(child)
                self._tell_guardian(f"-{child.process.pid}")

    def _tell_guardian(self, line: str) -> None:
        assert self._guardian.stdin is not None
        # Without its guardian the run is not protected any more, but it can continue.
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
    """A loopback port that no program uses now. Another program may take it first: then ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
