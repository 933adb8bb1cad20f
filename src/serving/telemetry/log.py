"""The function's log: one JSON object on each line of standard output, which Lambda sends to CloudWatch.

Powertools' logger writes such lines too. This one costs a start and a request less; `python -m benchmarks.imports`
measures both.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICE = "lambda-torch"
_NO_METRICS: Mapping[str, Any] = {}


class Log:
    """Writes the lines of one level and above.

    Args:
        level: one of LEVELS.
    """

    def __init__(self, level: str) -> None:
        self._lowest = LEVELS.index(level)

    def write(
        self, level: str, message: str, facts: Mapping[str, Any], metrics: Mapping[str, Any] = _NO_METRICS
    ) -> None:
        """Write one line. Below the log's level, the line has the metrics alone, or there is no line.

        Args:
            facts: more fields; a value that JSON does not know is written as text.
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
        metrics: Mapping[str, Any] = _NO_METRICS,
    ) -> None:
        """Write an exception with its stack trace; by default the exception that is being handled."""
        import traceback

        trace = "".join(traceback.format_exception(error or sys.exception()))
        self.write("ERROR", message, {**facts, "exception": trace}, metrics)


def _print(line: Mapping[str, Any]) -> None:
    # In one piece, since other threads write too.
    sys.stdout.write(_text(line) + "\n")
    sys.stdout.flush()


def _text(line: Mapping[str, Any]) -> str:
    """The line as ASCII JSON. pydantic's writer is faster than `json.dumps`, and this runs with every request."""
    try:
        return to_json(line, ensure_ascii=True, fallback=str).decode()
    except ValueError:  # half of a surrogate pair, which JSON has and UTF-8 does not; or very deep nesting
        return json.dumps(line, separators=(",", ":"), default=str)
