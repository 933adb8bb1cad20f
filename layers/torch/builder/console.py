"""What the person who runs the build sees: one line a step, and how far a long step is."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Console:
    """Prints steps to a stream. On a terminal the running step's line is written over; elsewhere a line a quarter is printed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, what: str) -> Iterator["Step"]:
        """A step of the build: says what begins, and at its end what came of it and how long it took."""
        step = Step(name, self._write, live=self._live)
        start = time.monotonic()
        self._write(f"{name:<8} {what} ..." + ("" if self._live else "\n"))
        try:
            yield step
        except BaseException:
            self._write("\n" if self._live else "")
            raise
        self.seconds[name] = time.monotonic() - start
        self._write(f"{step.clear}{name:<8} {step.result or what} ({self.seconds[name]:.0f} s)\n")

    def line(self, text: str) -> None:
        """A line of its own."""
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Step:
    """The step that is running."""

    def __init__(self, name: str, write: Callable[[str], None], *, live: bool) -> None:
        self._name, self._write, self._live = name, write, live
        self._told = 0.0
        self.result = ""
        self.clear = "\r\033[K" if live else ""

    def progress(self, part: float) -> None:
        """Tell how much is done, 0 to 1."""
        if part - self._told >= (0.01 if self._live else 0.25) and part < 1:
            self._told = part
            self._write(f"{self.clear}{self._name:<8} {part:4.0%}" + ("" if self._live else "\n"))

    def say(self, text: str) -> None:
        """Tell what is being done."""
        self._write(f"{self.clear}{self._name:<8} {text} ..." + ("" if self._live else "\n"))
