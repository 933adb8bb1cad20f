"""CloudWatch metrics in log lines: the embedded metric format.

CloudWatch makes metrics of them without a call from here.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

The line of a request carries its metrics as further fields, so it needs no second line and no client. Powertools has a
logger and a class for metrics, which write two lines; `python -m benchmarks.imports` measures both.
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

NAMESPACE = "lambda-torch"

# Every metric with its unit in CloudWatch.
UNITS = {
    "Requests": "Count",
    "Errors": "Count",
    "ColdStarts": "Count",
    "StartMilliseconds": "Milliseconds",
    "PredictMilliseconds": "Milliseconds",
    "FirstPieceMilliseconds": "Milliseconds",
    "PiecesPerSecond": "Count/Second",
    "ReleaseAgeSeconds": "Seconds",
    "Swaps": "Count",
    "SwapFailures": "Count",
    "PagerFaults": "Count",
    "PagerBytes": "Bytes",
}
# Written only where answers come in pieces.
OF_PIECES = ("FirstPieceMilliseconds", "PiecesPerSecond")
# The fields of a line that separate series of one metric. Without the function's name, all stacks of an account would
# be one.
DIMENSIONS = [["function_name"]]
# Errors are counted by their code, and all together.
DIMENSIONS_OF = {"Errors": [["function_name", "code"], ["function_name"]]}


class Metrics:
    """Makes the fields that turn a log line into metrics.

    Args:
        function_name: the function's name, a dimension of every metric.
    """

    def __init__(self, function_name: str) -> None:
        self._function_name = function_name

    def embedded(self, values: Mapping[str, float | list[float]], seconds: float | None = None) -> dict[str, Any]:
        """The fields for these metrics.

        Args:
            values: names of UNITS with their values, or lists of up to 100 of them. A line with `Errors` must have a
                field `code`, a string.
            seconds: when, in seconds since 1970; by default now.

        Raises:
            KeyError: a name is not in UNITS.
        """
        milliseconds = int((time.time() if seconds is None else seconds) * 1000)
        directives = _directives(tuple(values))
        about = {"Timestamp": milliseconds, "CloudWatchMetrics": directives}
        return {"_aws": about, "function_name": self._function_name, **values}


@cache
def _directives(names: tuple[str, ...]) -> list[dict[str, Any]]:
    counted = [name for name in names if name not in DIMENSIONS_OF]
    groups = [(DIMENSIONS, counted)] if counted else []
    groups += [(DIMENSIONS_OF[name], [name]) for name in names if name in DIMENSIONS_OF]
    return [
        {
            "Namespace": NAMESPACE,
            "Dimensions": dimensions,
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in group],
        }
        for dimensions, group in groups
    ]
