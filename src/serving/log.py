"""The function's log: one JSON object a line on standard output, which Lambda takes to CloudWatch.

Powertools' logger writes such lines too. This one is here since it costs a start and a request next to nothing:
`python -m benchmarks.imports` measures both.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICE = "lambda-torch"


class Log:
    """Writes lines of a level and above.

    Args:
        level: one of LEVELS.
    """

    def __init__(self, level: str) -> None:
        self._lowest = LEVELS.index(level)

    def write(self, level: str, message: str, facts: Mapping[str, Any]) -> None:
        """One line, unless `level` is below the log's.

        Args:
            facts: more fields; what JSON does not know is written as text.
        """
        if LEVELS.index(level) >= self._lowest:
            self.always(level, message, facts)

    def always(self, level: str, message: str, facts: Mapping[str, Any]) -> None:
        """One line, whatever the level: it carries metrics."""
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        # Lambda's own filter knows lines by `level` and `timestamp` (RFC 3339).
        line = {
            "level": level,
            "message": message,
            "timestamp": f"{moment}.{int(now % 1 * 1000):03d}Z",
            "service": SERVICE,
            **facts,
        }
        # In one piece, since other threads write too.
        sys.stdout.write(json.dumps(line, separators=(",", ":"), default=str) + "\n")
        sys.stdout.flush()

    def failure(self, message: str, facts: Mapping[str, Any]) -> None:
        """The exception that is being handled, with its stack trace."""
        import traceback

        self.write("ERROR", message, {**facts, "exception": traceback.format_exc()})
