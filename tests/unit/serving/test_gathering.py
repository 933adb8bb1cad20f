"""Metrics of several requests in one line: nothing is lost or counted twice, and what is unusual is written at once."""

import statistics
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.telemetry.emf import UNITS, Metrics
from serving.telemetry.gathering import GAUGES, MOST_VALUES, SUMS, GatheredMetrics
from serving.telemetry.pieces import PieceCounts
from serving.telemetry.receipts import Receipt, Start
from serving.telemetry.request_log import RequestEntry, RequestLog
from unit.serving.test_receipts import check_embedded

NAMES = sorted(UNITS)
REQUESTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10**6)), st.booleans(), st.floats(0, 20, width=16)
    ),
    max_size=300,
)


def listed(value: float | list[float]) -> list[float]:
    """The values of a metric in a line."""
    return value if isinstance(value, list) else [value]


@given(REQUESTS, st.sampled_from([0.0, 0.5, 10.0]))
def test_every_value_is_in_one_line(requests: list[tuple[dict[str, int], bool, float]], seconds: float) -> None:
    """Sums and measures of all lines are those of all requests; a line comes at once where urgent, and never late."""
    now = 0.0
    gathered = GatheredMetrics(seconds, lambda: now)
    written: dict[str, list[float]] = {name: [] for name in NAMES}
    counted, last = 0, -float("inf")
    for values, urgent, pause in [*requests, ({}, True, 0.0)]:
        now += pause
        count, line = gathered.add(values, urgent)
        assert count or not (urgent or now - last >= seconds)
        if count:
            last = now
        counted += count
        for name, value in line.items():
            assert 1 <= len(listed(value)) <= MOST_VALUES
            written[name] += listed(value)
    assert counted == len(requests) + 1
    for name in set(NAMES) - GAUGES:
        asked = [values[name] for values, _, _ in requests if name in values]
        assert sum(written[name]) == sum(asked)
        if name not in SUMS:
            assert written[name] == asked


def test_threads_share_the_lines() -> None:
    """Eight threads add requests: their lines have each of them once."""
    gathered = GatheredMetrics(1000.0)
    counts: list[int] = []

    def ask() -> None:
        for _ in range(500):
            counts.append(gathered.add({"Requests": 1, "PredictMilliseconds": 1.0}, urgent=False)[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) + gathered.add({}, urgent=True)[0] == 4001


def receipt(ms: float = 1.0) -> Receipt:
    """The receipt of a request that took so long."""
    made = Receipt()
    with made.recording(), made.phase("total"):
        pass
    made.rounded = lambda: {"total": ms, "predict": ms / 2}  # type: ignore[method-assign]
    return made


def ask(log: RequestLog, ms: float = 1.0, code: str | None = None, counts: PieceCounts | None = None) -> RequestEntry:
    """One request."""
    return log.entry(receipt(ms), code, 5.0, counts)


def test_plain_requests_share_a_line_and_unusual_ones_have_their_own() -> None:
    """The first, failed and slow ones are written at once, with the metrics of those before them."""
    start = Start.of_process()
    start.ready()
    log = RequestLog(start, "on-demand", Metrics("f"), seconds=1000.0, slow_ms=100.0)
    assert ask(log).is_due
    plain = [ask(log, ms) for ms in (2.0, 4.0)]
    assert [entry.is_due for entry in plain] == [False, False]
    assert all(entry.server_timing for entry in plain)
    failed = ask(log, 6.0, "invalid_json")
    line: dict[str, Any] = {**failed.facts, **failed.metrics}
    assert (failed.is_due, line["requests"], line["Requests"], line["Errors"], line["code"]) == (
        True,
        3,
        3,
        1,
        "invalid_json",
    )
    assert line["PredictMilliseconds"] == [1.0, 2.0, 3.0]
    assert statistics.median(line["PredictMilliseconds"]) == 2.0
    assert line["ReleaseAgeSeconds"] == 5.0
    check_embedded(line)
    slow = ask(log, 101.0)
    assert slow.is_due
    assert "requests" not in slow.facts
    restored = Start()
    restored.ready()
    log.restored(restored)
    assert ask(log).is_due


def test_a_line_comes_before_it_is_too_long() -> None:
    """The hundredth request writes the line, since a line takes no more values."""
    log = RequestLog(Start(), "on-demand", Metrics("f"), seconds=1000.0)
    ask(log)
    due = [ask(log).is_due for _ in range(250)]
    assert [index for index, is_due in enumerate(due) if is_due] == [99, 199]
