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
# What the stack's alarms look at. The values of the others stay fields of the lines, for queries.
OF_ALARMS = {"Errors": [["function_name", "code"]], "SwapFailures": DIMENSIONS, "ReleaseAgeSeconds": DIMENSIONS}


def series(choice: str) -> dict[str, list[list[str]]]:
    """Each metric with its lists of dimensions: all metrics for `full`, those of alarms for `alarms`."""
    return OF_ALARMS if choice == "alarms" else {name: DIMENSIONS_OF.get(name, DIMENSIONS) for name in UNITS}


class Metrics:
    """Makes the fields that turn a log line into metrics.

    Args:
        function_name: the function's name, a dimension of every metric.
        choice: which metrics: `full` or `alarms`.
    """

    def __init__(self, function_name: str, choice: str = "full") -> None:
        self._function_name = function_name
        self._choice = choice

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
        directives = _directives(tuple(values), self._choice)
        about = {"Timestamp": milliseconds, "CloudWatchMetrics": directives}
        return {"_aws": about, "function_name": self._function_name, **values}


@cache
def _directives(names: tuple[str, ...], choice: str) -> list[dict[str, Any]]:
    units = {name: UNITS[name] for name in names}
    dimensions_of = {name: each for name, each in series(choice).items() if name in units}
    counted = [name for name in names if dimensions_of.get(name) == DIMENSIONS]
    groups = [(DIMENSIONS, counted)] if counted else []
    groups += [(each, [name]) for name, each in dimensions_of.items() if each != DIMENSIONS]
    return [
        {
            "Namespace": NAMESPACE,
            "Dimensions": dimensions,
            "Metrics": [{"Name": name, "Unit": units[name]} for name in group],
        }
        for dimensions, group in groups
    ]
