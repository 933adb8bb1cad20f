"""Shows each step of long work in one line, with its time. On a terminal a clock runs while the step does."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

TICK_SECONDS = 1.0
# Where the output is no terminal, a line that grows a dot at this pace shows that the work goes on.
DOT_SECONDS = 10.0


class Steps:
    """Prints the steps of one piece of work.

    Args:
        total: how many steps there are.
        out: where to print.
    """

    def __init__(self, total: int, out: TextIO = sys.stderr) -> None:
        self._total, self._out = total, out
        self._number = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.monotonic() - self._began

    def line(self, text: str) -> None:
        """A line between the steps."""
        self._write(f"{text}\n")

    def note(self, text: str) -> None:
        """A line about the step that runs."""
        self._write(f"\n    {text}\n")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title, run the block, and print its seconds behind the title. A step that fails says so."""
        self._number += 1
        began = time.monotonic()
        line = f"{self._number}/{self._total} {title} "
        self._write(line)
        done = threading.Event()
        clock = threading.Thread(target=self._run_clock, args=(line, began, done), name="clock of a step")
        clock.start()
        outcome = "failed after "
        try:
            yield
            outcome = ""
        finally:
            done.set()
            clock.join()
            seconds = f"{outcome}{time.monotonic() - began:.1f} s\n"
            self._write(f"\r{line} {seconds}" if self._out.isatty() else f" {seconds}")

    def _run_clock(self, line: str, began: float, done: threading.Event) -> None:
        terminal = self._out.isatty()
        while not done.wait(TICK_SECONDS if terminal else DOT_SECONDS):
            self._write(f"\r{line} {time.monotonic() - began:.0f} s" if terminal else ".")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
