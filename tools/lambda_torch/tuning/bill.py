"""What a month of a stack costs, part by part: from its template, its requests and the table of prices."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lambda_torch.stacks.template import StackTemplate
from lambda_torch.tuning.price_table import PriceTable
from serving.telemetry import emf

HOURS = 730  # of a month, as AWS's own calculator counts
SECONDS = HOURS * 3600

# Bytes that a warm request writes into the log: the line of one request, and what each further one adds whose metrics are
# in the same line (a test measures both). Lambda's own two lines in JSON are platform.start and platform.report.
# "PutLogEvents": CloudWatch counts 26 bytes more for each line.
REQUEST_LINE_BYTES = 750
GATHERED_BYTES = 8
PLATFORM_LINES_BYTES = 365
LINE_OVERHEAD_BYTES = 26
# One line has the metrics of so many requests at most.
MOST_GATHERED = 100
# A first request's line carries its start as well.
START_BYTES = 700

# An environment that is in use looks for a new release this often (RELEASE_REFRESH_SECONDS).
REFRESH_SECONDS = 15
# Lambda keeps this many calls waiting at a queue, each for 20 s, while no message comes.
QUEUE_POLLERS = 5
QUEUE_POLL_SECONDS = 20
# Send, receive and delete. Lambda receives and deletes up to ten messages at a time, so this is the most.
QUEUE_CALLS = 3
# What a batch of a bulk file runs through: the start of its own execution, and its one state.
BULK_TRANSITIONS = 2
# "Sampling rules", X-Ray: one request in each second, and one in twenty of the others.
TRACED_SHARE = 0.05
GB = 1e9


@dataclass(frozen=True)
class BilledStack:
    """What a template says about costs.

    Attributes:
        memory_mb: of the function.
        architecture: of the function.
        doors: the ways in that it has, by their names in DOORS.
        has_queue: whether Lambda waits at a queue all the time.
        batch_items: the most items of a bulk file in one invocation.
        alarm_metrics: metrics that alarms look at.
        metrics: series of metrics that the function writes.
        dashboards: how many there are.
        log_days: days that logs are kept.
        log_seconds: the least seconds between two lines of requests in an environment; 0 for a line of each.
        traced: whether X-Ray traces requests.
        snapshots: whether environments start from a snapshot.
    """

    memory_mb: int
    architecture: str
    doors: tuple[str, ...]
    has_queue: bool
    batch_items: int
    alarm_metrics: int
    metrics: int
    dashboards: int
    log_days: int
    log_seconds: float
    traced: bool
    snapshots: bool


@dataclass(frozen=True)
class MonthOfRequests:
    """What clients ask in a month.

    Attributes:
        requests: how many. Items, for bulk files.
        ms: billed milliseconds of a warm one.
        cold_share: the share of the requests that start an environment, from 0 to 1.
        cold_ms: billed milliseconds of a start, which come on top.
        release_mb: of all releases in the bucket, in megabytes.
    """

    requests: int
    ms: float
    cold_share: float = 0.01
    cold_ms: float = 1000.0
    release_mb: float = 10.0

    def seconds(self, starts: float) -> float:
        """Billed seconds of all of them, with so many starts."""
        return (self.requests * math.ceil(self.ms) + starts * math.ceil(self.cold_ms)) / 1000


def billed_stack(template: StackTemplate) -> BilledStack:
    """Read what costs from the project's template.

    Raises:
        KeyError: it is the template of another project.
    """
    function = template.of_type("AWS::Serverless::Function")["PredictFunction"]
    events = [event["Type"] for event in function.get("Events", {}).values()]
    has = {
        "REST API": bool(template.of_type("AWS::Serverless::Api")),
        "HTTP API": bool(template.of_type("AWS::ApiGatewayV2::Api", "AWS::Serverless::HttpApi")),
        "function URL": bool(template.of_type("AWS::Lambda::Url")) or "FunctionUrlConfig" in function,
        "queue": "SQS" in events,
        "bulk file": bool(template.of_type("AWS::StepFunctions::StateMachine", "AWS::Serverless::StateMachine")),
    }
    alarms = template.of_type("AWS::CloudWatch::Alarm").values()
    return BilledStack(
        memory_mb=int(function["MemorySize"]),
        architecture=function.get("Architectures", ["x86_64"])[0],
        doors=tuple(door for door in DOORS if has[door]),
        has_queue=has["queue"],
        batch_items=int(template.parameters.get("BulkBatchSize", 1)),
        alarm_metrics=sum(metrics_of_alarm(alarm) for alarm in alarms),
        metrics=sum(metrics_written(template).values()),
        dashboards=len(template.of_type("AWS::CloudWatch::Dashboard")),
        log_days=int(template.parameters.get("LogRetentionDays", 30)),
        log_seconds=_log_seconds(template),
        traced=function.get("Tracing") == "Active",
        snapshots=function.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions",
    )


def _log_seconds(template: StackTemplate) -> float:
    parameters = template.parameters
    return 0.0 if parameters.get("LogRequests") == "on" else float(parameters.get("LogSeconds", 0))


def metrics_of_alarm(alarm: dict[str, Any]) -> int:
    """How many metrics an alarm looks at: one, or those of its expression."""
    return max(1, sum("MetricStat" in each for each in alarm.get("Metrics", [])))


def metrics_written(template: StackTemplate) -> dict[str, int]:
    """The metrics that the function writes, and how many series of each: by its parameters, and those of pieces if it streams."""
    streams = template.parameters.get("ResponseStreaming", "off") != "off"
    series = emf.series(template.parameters.get("Watching", "full"))
    return {name: len(each) for name, each in series.items() if streams or name not in emf.OF_PIECES}


@dataclass(frozen=True)
class Tally:
    """Adds up units of the price table.

    Attributes:
        table: the prices.
        free_tier: whether what an account has free is subtracted.
    """

    table: PriceTable
    free_tier: bool = False

    def usd(self, **units: float) -> float:
        """US dollars for units of rows, whose names are written with underscores here."""
        return sum(self.table[name.replace("_", "-")].cost(count, self.free_tier) for name, count in units.items())


Door = Callable[[Tally, BilledStack, MonthOfRequests], float]


def _queue(tally: Tally, _stack: BilledStack, month: MonthOfRequests) -> float:
    return tally.usd(sqs_request=QUEUE_CALLS * month.requests, s3_put=month.requests)


def _bulk(tally: Tally, stack: BilledStack, month: MonthOfRequests) -> float:
    batches = math.ceil(month.requests / stack.batch_items)
    return tally.usd(state_transition=BULK_TRANSITIONS * batches, s3_put=batches)


# A way in -> what the way itself costs for a month's requests.
DOORS: dict[str, Door] = {
    "REST API": lambda tally, _stack, month: tally.usd(rest_api=month.requests),
    "HTTP API": lambda tally, _stack, month: tally.usd(http_api=month.requests),
    "function URL": lambda tally, _stack, month: tally.usd(function_url=month.requests),
    "queue": _queue,
    "bulk file": _bulk,
}


def request_lines(stack: BilledStack, invocations: float, environments: float, starts: float) -> float:
    """The lines of requests in a month whose requests come evenly: those of starts, and one in each `log_seconds`.

    Requests that come in bursts share lines too where this counts one for each, so the true number is lower.
    """
    if not stack.log_seconds:
        return invocations
    regular = max(environments * SECONDS / stack.log_seconds, invocations / MOST_GATHERED)
    return min(invocations, regular + starts)


def month_bill(tally: Tally, stack: BilledStack, month: MonthOfRequests, door: str) -> dict[str, float]:
    """US dollars of a month by part.

    Args:
        tally: the prices.
        stack: what was deployed.
        month: what clients ask.
        door: by which way they ask, a name of DOORS.

    Returns:
        Part to US dollars. The parts are the same for all doors and months. `traces` and `SnapStart` are 0 if they
        are off.
    """
    memory = stack.memory_mb / 1024
    # The items of a batch share an invocation, with its lines in the log.
    invocations = math.ceil(month.requests / stack.batch_items) if door == "bulk file" else month.requests
    starts = invocations * month.cold_share
    seconds = month.seconds(starts)
    environments = max(1.0, seconds / SECONDS)
    # What is free is free once: the calls of the door come first, and these follow.
    calls = QUEUE_CALLS * month.requests if door == "queue" else 0
    waiting = QUEUE_POLLERS * SECONDS / QUEUE_POLL_SECONDS if stack.has_queue else 0
    looks = min(invocations, environments * SECONDS / REFRESH_SECONDS)
    # A message and a batch have a line each.
    gathers = door not in ("queue", "bulk file")
    lines = request_lines(stack, invocations, environments, starts) if gathers else invocations
    ours = lines * (REQUEST_LINE_BYTES + LINE_OVERHEAD_BYTES) + (invocations - lines) * GATHERED_BYTES
    platform = invocations * (PLATFORM_LINES_BYTES + 2 * LINE_OVERHEAD_BYTES)
    log_gb = (ours + platform + starts * START_BYTES) / GB
    compute = tally.table[f"lambda-{stack.architecture}"]
    per_second = invocations / SECONDS
    traces = min(invocations, SECONDS * (min(per_second, 1) + TRACED_SHARE * max(per_second - 1, 0)))
    return {
        "door": DOORS[door](tally, stack, month),
        "invocations": tally.usd(lambda_request=invocations),
        "compute": compute.cost(seconds * memory, tally.free_tier),
        "logs": tally.usd(log_ingestion=log_gb, log_storage=log_gb * stack.log_days / 30),
        "metrics": tally.usd(metric=stack.metrics * min(invocations, HOURS) / HOURS),
        "alarms": tally.usd(alarm=stack.alarm_metrics),
        "dashboard": tally.usd(dashboard=stack.dashboards),
        "releases": tally.usd(s3_storage=month.release_mb / 1000, s3_get=looks),
        "waiting at the queue": tally.usd(sqs_request=calls + waiting) - tally.usd(sqs_request=calls),
        "traces": tally.usd(trace=traces) if stack.traced else 0.0,
        "SnapStart": tally.usd(snapstart_cache=memory * SECONDS, snapstart_restore=starts * memory)
        if stack.snapshots
        else 0.0,
    }
