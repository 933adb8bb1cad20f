"""One request's receipt as its log line, its metrics and its `Server-Timing`.

The first request's also carry the start.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.telemetry import layer, receipts
from serving.telemetry.emf import Metrics
from serving.telemetry.gathering import GatheredMetrics
from serving.telemetry.layer import PagerCounts
from serving.telemetry.receipts import REQUEST_PHASES, START_PHASES, Receipt, Start

if TYPE_CHECKING:
    from serving.telemetry.pieces import PieceCounts


class RequestEntry(NamedTuple):
    """What a request adds to its log line, the fields that make metrics of it, and the value of its `Server-Timing`.

    `is_due` is False where the line is left out, and a later one has the metrics.
    """

    facts: dict[str, Any]
    metrics: dict[str, Any]
    server_timing: str
    is_due: bool


class RequestLog:
    """Makes the entries of one environment's requests.

    Args:
        start: the start's receipt, which the first entry takes.
        kind: how Lambda came to start this environment.
        metrics: makes the entries' metrics.
        seconds: the least time between two lines of requests that went well; 0 writes every one.
        slow_ms: a request that takes more milliseconds always has its line.
    """

    def __init__(
        self, start: Start, kind: str, metrics: Metrics, seconds: float = 0.0, slow_ms: float = math.inf
    ) -> None:
        self._start: Start | None = start
        self._kind = kind
        self._metrics = metrics
        self._pager = PagerCounts(0, 0, 0)
        self._import_is_logged = False
        self._gathered = GatheredMetrics(seconds)
        self._slow_ms = slow_ms

    def timing(self, receipt: Receipt) -> str:
        """The `Server-Timing` of an answer whose entry is not yet made, with its phases so far."""
        return _timing(self._start, receipt.rounded())

    def entry(
        self, receipt: Receipt, code: str | None, release_age: float | None, counts: "PieceCounts | None" = None
    ) -> RequestEntry:
        """The entry of a request that has been answered.

        Args:
            receipt: the request's phases.
            code: the error's code; None for a success.
            release_age: seconds since the current release was made; None without one.
            counts: of the pieces of the answer, if it came in pieces.
        """
        # One request takes the start, even where several run at a time: this statement is one step of the interpreter.
        start, self._start = self._start, None
        values: dict[str, float] = {"Requests": 1}
        phases = receipt.rounded()
        facts: dict[str, Any] = {"ms": phases.get("total", 0.0), "phases": phases}
        if code is not None:
            values["Errors"] = 1
        predict = phases.get("predict")
        if predict is not None:
            values["PredictMilliseconds"] = predict
        if release_age is not None:
            values["ReleaseAgeSeconds"] = round(release_age, 3)
        self._add_pager(values, facts)
        self._add_completed_import(facts)
        if counts is not None and counts.pieces:
            values |= {
                "FirstPieceMilliseconds": round(counts.first_ms, 3),
                "PiecesPerSecond": round(counts.per_second, 3),
            }
        if start is not None:
            values |= {"ColdStarts": 1, "StartMilliseconds": round(start.total, 3)}
            facts["start"] = {"kind": self._kind, **start.facts()}
        timing = _timing(start, phases)
        unusual = code is not None or start is not None or counts is not None or "import_completed" in facts
        requests, gathered = self._gathered.add(values, unusual or facts["ms"] > self._slow_ms)
        if not requests:
            return RequestEntry(facts, {}, timing, False)
        if requests > 1:
            facts["requests"] = requests
        embedded = self._metrics.embedded(gathered)
        if code is not None:
            embedded["code"] = code
        return RequestEntry(facts, embedded, timing, True)

    def restored(self, start: Start) -> None:
        """This process is a copy of a snapshot: its next request counts as its first, and carries this start."""
        self._start = start

    def _add_completed_import(self, facts: dict[str, Any]) -> None:
        """Once: the model touched a part of torch that the layer defers, and what it cost to run all of it."""
        completed = None if self._import_is_logged else layer.completed_import()
        if completed is not None:
            self._import_is_logged = True
            facts["import_completed"] = completed._asdict()

    def _add_pager(self, values: dict[str, float], facts: dict[str, Any]) -> None:
        """What the pager did since the last request; for the first request, since the process began."""
        now, before = layer.pager_counts(), self._pager
        if now is None or now.faults == before.faults:
            return
        self._pager = now
        values |= {"PagerFaults": now.faults - before.faults, "PagerBytes": now.bytes - before.bytes}
        facts["pager_ms"] = round((now.microseconds - before.microseconds) / 1e3, 3)


def _timing(start: Start | None, phases: Mapping[str, float]) -> str:
    if start is None:
        return receipts.server_timing(phases)
    of_start = receipts.server_timing(start.rounded(), START_PHASES)
    return f"{of_start}, {receipts.server_timing(phases, REQUEST_PHASES)}"
