"""Metrics of several requests in one log line.

A warm request of a small model costs less than its line in the log. So where requests come fast, one line has the
metrics of all since the line before: counts as their sum, measures as lists of values, of which CloudWatch makes the
same percentiles as of single ones ("Specification: CloudWatch embedded metric format").
"""

import threading
import time
from collections.abc import Callable, Mapping

from serving.telemetry.emf import UNITS

# The most values of one metric in a line, by the specification.
MOST_VALUES = 100
# Of these, the last value says all.
GAUGES = {"ReleaseAgeSeconds"}
SUMS = {name for name, unit in UNITS.items() if unit in ("Count", "Bytes")}

Values = dict[str, float | list[float]]


class GatheredMetrics:
    """The metrics since the last line of one environment.

    Lambda may end an environment at any time, and then what was gathered is lost: never more than the requests of
    `seconds`, and never an error, since urgent ones are given at once.

    Args:
        seconds: the least time between two lines that nothing urgent asks for. With 0 each request has its line.
        clock: gives seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last = -float("inf")
        self._count = 0
        self._values: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def add(self, values: Mapping[str, float], urgent: bool) -> tuple[int, Values]:
        """Add a request's metrics: how many requests the line has, and their metrics; 0 if there is no line yet.

        Args:
            values: names of UNITS with their values.
            urgent: the line has to be written now.
        """
        if not self._seconds:
            return 1, dict(values)
        with self._lock:
            self._count += 1
            for name, value in values.items():
                self._values.setdefault(name, []).append(value)
            now = self._clock()
            if not urgent and self._count < MOST_VALUES and now - self._last < self._seconds:
                return 0, {}
            count, gathered = self._count, self._values
            self._last, self._count, self._values = now, 0, {}
        return count, {name: _joined(name, found) for name, found in gathered.items()}


def _joined(name: str, found: list[float]) -> float | list[float]:
    if name in SUMS:
        return sum(found)
    return found[-1] if len(found) == 1 or name in GAUGES else found
