"""CloudWatch metrics in log lines: the embedded metric format, which CloudWatch turns into metrics without a call from here.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

The line of a request carries its metrics as further fields, so neither a second line nor a client is needed. Powertools has a
logger and a class for metrics, which write two lines; `python -m benchmarks.imports` measures both.
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

NAMESPACE = "lambda-torch"

# Every metric there is, with its unit in CloudWatch.
UNITS = {
    "Requests": "Count",
    "Errors": "Count",
    "ColdStarts": "Count",
    "StartMilliseconds": "Milliseconds",
    "PredictMilliseconds": "Milliseconds",
    "ReleaseAgeSeconds": "Seconds",
    "Swaps": "Count",
    "SwapFailures": "Count",
    "PagerFaults": "Count",
    "PagerBytes": "Bytes",
}
# The fields of a line that tell series of a metric apart. Without the function's name all stacks of an account would be one.
DIMENSIONS = [["function_name"]]
# Errors are counted in all, and by their code.
DIMENSIONS_OF = {"Errors": [["function_name", "code"], ["function_name"]]}
# Nothing was published, or the function was not told where: that is how every stack begins, and no failure.
NOT_YET = ("no_release", "no_bucket")


class Metrics:
    """Makes the fields that turn a log line into metrics.

    Args:
        function_name: the function's, a dimension of every metric.
    """

    def __init__(self, function_name: str) -> None:
        self._function_name = function_name

    def embedded(self, values: Mapping[str, float], seconds: float | None = None) -> dict[str, Any]:
        """The fields for these metrics.

        Args:
            values: names of UNITS with their values. A line with `Errors` must have a field `code`, a string.
            seconds: when, since 1970; now if it is None.

        Raises:
            KeyError: a name that is not in UNITS.
        """
        milliseconds = int((time.time() if seconds is None else seconds) * 1000)
        directives = _directives(tuple(values))
        about = {"Timestamp": milliseconds, "CloudWatchMetrics": directives}
        return {"_aws": about, "function_name": self._function_name, **values}

    def of_release(self, event: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The fields for what `serving.releases.follower` reports; none for what is no swap and no failure of one."""
        if event == "swapped" and facts["before"] is not None:
            return self.embedded({"Swaps": 1})
        if event == "refused" and facts["code"] not in NOT_YET:
            return self.embedded({"SwapFailures": 1})
        return {}


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
