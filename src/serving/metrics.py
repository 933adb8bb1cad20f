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
# Metrics that are counted by a field of the line too, beside their sum.
DIMENSIONS = {"Errors": "code"}

# Nothing was published, or the function was not told where: that is how every stack begins, and no failure.
NOT_YET = ("no_release", "no_bucket")


def embedded(values: Mapping[str, float], seconds: float | None = None) -> dict[str, Any]:
    """The fields that make metrics of a log line.

    Args:
        values: names of UNITS with their values. A line with `Errors` must have a field `code`, a string.
        seconds: when, since 1970; now if it is None.

    Raises:
        KeyError: a name that is not in UNITS.
    """
    milliseconds = int((time.time() if seconds is None else seconds) * 1000)
    return {"_aws": {"Timestamp": milliseconds, "CloudWatchMetrics": _directives(tuple(values))}, **values}


def of_release(event: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that make metrics of what `serving.current` reports; none for what is no swap and no failure of one."""
    if event == "swapped" and facts["before"] is not None:
        return embedded({"Swaps": 1})
    if event == "refused" and facts["code"] not in NOT_YET:
        return embedded({"SwapFailures": 1})
    return {}


@cache
def _directives(names: tuple[str, ...]) -> list[dict[str, Any]]:
    groups: dict[str | None, list[str]] = {}
    for name in names:
        groups.setdefault(DIMENSIONS.get(name), []).append(name)
    return [
        {
            "Namespace": NAMESPACE,
            # The empty set is the metric without dimensions.
            "Dimensions": [[]] if field is None else [[field], []],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in group],
        }
        for field, group in groups.items()
    ]
