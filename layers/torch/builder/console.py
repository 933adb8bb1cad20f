"""What the person who runs the build sees: one line for each step, and the progress of long steps."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Console:
    """Prints steps to a stream.

    On a terminal the line of the running step is overwritten. Elsewhere a line is printed for each quarter of a step.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, what: str) -> Iterator["Step"]:
        """A step of the build: prints what begins, and at the end the result and the time."""
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
        """Print one line."""
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Step:
    """The step that is running. `result` is what its last line says."""

    def __init__(self, name: str, write: Callable[[str], None], *, live: bool) -> None:
        self._name, self._write, self._live = name, write, live
        self._started = time.monotonic()
        self._shown = 0.0
        self.result = ""
        self.clear = "\r\033[K" if live else ""

    def progress(self, part: float) -> None:
        """Show how much is done, 0 to 1."""
        if part - self._shown >= (0.01 if self._live else 0.25) and part < 1:
            self._shown = part
            self._write(f"{self.clear}{self._name:<8} {part:4.0%}" + ("" if self._live else "\n"))

    def note(self, text: str) -> None:
        """Show a sentence that stays."""
        self._write(f"{self.clear}{self._name:<8} {text}\n")

    def say(self, text: str) -> None:
        """Show what is being done, and how long the step has taken so far."""
        seconds = time.monotonic() - self._started
        after = f" (after {seconds:.0f} s)" if seconds >= 1 else ""
        self._write(f"{self.clear}{self._name:<8} {text} ...{after}" + ("" if self._live else "\n"))
