"""The function's log: one JSON object a line on standard output, which Lambda takes to CloudWatch.

Powertools' logger writes such lines too. This one is here since it costs a start and a request next to nothing:
`python -m benchmarks.imports` measures both.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

from serving.http import responses

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICE = "lambda-torch"
_NONE: Mapping[str, Any] = {}


class Log:
    """Writes lines of a level and above.

    Args:
        level: one of LEVELS.
    """

    def __init__(self, level: str) -> None:
        self._lowest = LEVELS.index(level)

    def write(self, level: str, message: str, facts: Mapping[str, Any], metrics: Mapping[str, Any] = _NONE) -> None:
        """One line; below the log's level, of the metrics alone, if there are any.

        Args:
            facts: more fields; what JSON does not know is written as text.
            metrics: the fields that make metrics of the line, from `serving.telemetry.emf`.
        """
        if LEVELS.index(level) < self._lowest:
            if metrics:
                _print(metrics)
            return
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        # Lambda's own filter knows lines by `level` and `timestamp` (RFC 3339).
        line = {
            "level": level,
            "message": message,
            "timestamp": f"{moment}.{int(now % 1 * 1000):03d}Z",
            "service": SERVICE,
        }
        _print({**line, **facts, **metrics})

    def failure(
        self,
        message: str,
        facts: Mapping[str, Any],
        error: BaseException | None = None,
        metrics: Mapping[str, Any] = _NONE,
    ) -> None:
        """An exception with its stack trace; by default the one that is being handled."""
        import traceback

        trace = "".join(traceback.format_exception(error or sys.exception()))
        self.write("ERROR", message, {**facts, "exception": trace}, metrics)


def _print(line: Mapping[str, Any]) -> None:
    # In one piece, since other threads write too.
    sys.stdout.write(responses.compact(line) + "\n")
    sys.stdout.flush()
