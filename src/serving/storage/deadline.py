"""The moment until which a step must be done, with every read that is part of it.

A timeout of a socket counts from read to read: a server that sends one byte now and then never breaks it. So each step
has a deadline, and each wait for the network is at most what is left of it.

Lambda freezes an environment between two requests, for seconds or for minutes. A step that was begun before must be able
to go on after. So deadlines count the time in which the process ran, and not the time in which it was frozen.
"""

import threading
import time
from collections.abc import Callable
from typing import Self

# Waits are cut into pieces of this length, so that every step looks at the clock so often.
TICK_SECONDS = 0.25
# So much time without a look at the clock is taken for a freeze, and not for a busy machine.
FROZEN_SECONDS = 0.5


class AwakeClock:
    """Seconds in which this process ran. More than FROZEN_SECONDS between two looks at the clock do not count.

    Args:
        clock: monotonic seconds, which go on while the process is frozen.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._awake = self._lost = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The seconds that count."""
        return self._look()[0]

    def lost(self) -> float:
        """The seconds that do not count."""
        return self._look()[1]

    def _look(self) -> tuple[float, float]:
        with self._lock:
            now = self._clock()
            gap, self._last = now - self._last, now
            if gap > FROZEN_SECONDS:
                self._lost += gap
            else:
                self._awake += gap
            return self._awake, self._lost


AWAKE = AwakeClock()


class Deadline:
    """A moment, so many seconds from now. Another thread may bring it forward with `end`.

    Args:
        seconds: until the moment.
        clock: monotonic seconds, or only those in which the process ran.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = AWAKE) -> None:
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
