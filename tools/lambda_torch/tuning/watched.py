"""What each alarm, metric and dashboard of a stack costs in a month, whether or not requests come."""

from collections.abc import Iterator
from dataclasses import dataclass

from lambda_torch.stacks.template import StackTemplate
from lambda_torch.tuning.bill import Tally, metrics_of_alarm, metrics_written


@dataclass(frozen=True)
class WatchedPart:
    """Something that watches a stack.

    Attributes:
        kind: `alarm`, `metric` or `dashboard`.
        name: of the alarm, the metric or the resource.
        metrics: how many series it looks at or consists of. A dashboard is charged as a whole.
        usd: US dollars a month. A metric is charged in the hours in which requests come; this is for all of them.
    """

    kind: str
    name: str
    metrics: int
    usd: float


def watched_parts(tally: Tally, template: StackTemplate) -> Iterator[WatchedPart]:
    """The alarms, the metrics and the dashboards of a stack, the dearest first within each kind.

    Raises:
        KeyError: it is the template of another project.
    """
    alarms = {name: metrics_of_alarm(each) for name, each in template.of_type("AWS::CloudWatch::Alarm").items()}
    for name, count in _dearest_first(alarms):
        yield WatchedPart("alarm", name, count, tally.usd(alarm=count))
    for name, count in _dearest_first(metrics_written(template)):
        yield WatchedPart("metric", name, count, tally.usd(metric=count))
    for name in template.of_type("AWS::CloudWatch::Dashboard"):
        yield WatchedPart("dashboard", name, 0, tally.usd(dashboard=1))


def _dearest_first(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
