"""One request's receipt as its log line, its metrics and its `Server-Timing`; the first one's carry the start's as well."""

from typing import Any, NamedTuple

from serving.telemetry import receipts
from serving.telemetry.emf import Metrics
from serving.telemetry.receipts import REQUEST_PHASES, START_PHASES, Pager, Receipt, Start


class Account(NamedTuple):
    """What a request adds to its log line, the fields that make metrics of it, and the value of its `Server-Timing`."""

    facts: dict[str, Any]
    metrics: dict[str, Any]
    server_timing: str


class Accounts:
    """Makes the accounts of one environment.

    Args:
        start: the start's receipt, which the first account takes.
        kind: how Lambda came to start this environment.
        metrics: makes their metrics.
    """

    def __init__(self, start: Start, kind: str, metrics: Metrics) -> None:
        self._start: Start | None = start
        self._kind = kind
        self._metrics = metrics
        self._pager = Pager(0, 0, 0)
        self._told_import = False

    def of(self, receipt: Receipt, code: str | None, release_age: float | None) -> Account:
        """The account of a request that has been answered.

        Args:
            receipt: the request's phases.
            code: the error's code; None for a success.
            release_age: seconds since the current release was made.
        """
        # One request takes the start, also where several run at a time: reading and forgetting is one step of the interpreter.
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
        self._count_pager(values, facts)
        self._tell_import(facts)
        if start is None:
            timing = receipts.server_timing(phases)
        else:
            values |= {"ColdStarts": 1, "StartMilliseconds": round(start.total, 3)}
            facts["start"] = {"kind": self._kind, **start.facts()}
            of_start = receipts.server_timing(start.rounded(), START_PHASES)
            timing = f"{of_start}, {receipts.server_timing(phases, REQUEST_PHASES)}"
        embedded = self._metrics.embedded(values)
        if code is not None:
            embedded["code"] = code
        return Account(facts, embedded, timing)

    def restored(self, start: Start) -> None:
        """This process is a copy of a snapshot: its next request is its first, and carries this."""
        self._start = start

    def _tell_import(self, facts: dict[str, Any]) -> None:
        """Once: that the model touched a part of torch that the layer holds back, and what running all of it cost."""
        completed = None if self._told_import else receipts.completed_import()
        if completed is not None:
            self._told_import = True
            facts["import_completed"] = completed._asdict()

    def _count_pager(self, values: dict[str, float], facts: dict[str, Any]) -> None:
        """What the pager did since the last request; with the first one, since the process began."""
        now, before = receipts.pager(), self._pager
        if now is None or now.faults == before.faults:
            return
        self._pager = now
        values |= {"PagerFaults": now.faults - before.faults, "PagerBytes": now.bytes - before.bytes}
        facts["pager_ms"] = round((now.microseconds - before.microseconds) / 1e3, 3)
