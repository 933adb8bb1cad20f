"""The thread that looks at a channel: one look at a time, and requests that wait for its end or lend it time."""

import threading
from collections.abc import Callable

from serving.storage.deadline import AWAKE


class LookThread:
    """A thread that looks when it is asked to.

    Args:
        look: what a look is. It never raises.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        # Whether a look is asked for, or going on.
        self._is_busy = False
        self._ended = threading.Condition()
        # `AWAKE.lost` when that look began.
        self._lost = 0.0

    def begin(self) -> None:
        """Have the thread look now."""
        self._is_busy, self._lost = True, AWAKE.lost()
        # A thread does not live on in a copy of the process.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="release-refresh", daemon=True)
            self._thread.start()
        self._wake.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait so long for the end of a look that is going on (None: as long as it takes). Returns whether it ended."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._is_busy, seconds)

    def lend(self, seconds: float) -> None:
        """Stay at most so long for a look that was frozen since it began.

        Lambda lets the process run only while it answers requests. Without this, a release would come in by the
        milliseconds that requests take, and on a function that is seldom called it would never arrive.
        """
        if self._is_busy and AWAKE.lost() > self._lost:
            self.wait(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self._look()
            with self._ended:
                self._is_busy = self._wake.is_set()
                self._ended.notify_all()
