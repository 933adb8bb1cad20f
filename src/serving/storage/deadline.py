"""The moment until which a step must be done, with every read that is part of it.

A timeout of a socket counts from read to read: a server that sends one byte now and then never breaks it. So each step
has a deadline, and each wait for the network is at most what is left of it.
"""

import threading
import time
from collections.abc import Callable
from typing import Self


class Deadline:
    """A moment, so many seconds from now. Another thread may bring it forward with `end`.

    Args:
        seconds: until the moment.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moment = clock() + seconds
        self._ended = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds that are left; 0.0 once the moment has passed."""
        return 0.0 if self._ended.is_set() else max(0.0, self._moment - self._clock())

    def within(self, seconds: float) -> Self:
        """A deadline of its own: so many seconds from now, but never later than this one."""
        return type(self)(min(seconds, self.remaining), self._clock)

    def wait(self, longest: float) -> float:
        """How long the next wait may take, in seconds: `longest`, or what is left.

        Raises:
            TimeoutError: nothing is left.
        """
        remaining = self.remaining
        if not remaining:
            raise TimeoutError("the time for this step is over")
        return min(longest, remaining)

    def pause(self, seconds: float) -> None:
        """Sleep so long, but not beyond the moment."""
        self._ended.wait(min(seconds, self.remaining))

    def end(self) -> None:
        """The moment is now."""
        self._ended.set()
