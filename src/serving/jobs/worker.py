"""Events that nobody waits for: messages of the queue and batches of a bulk file. Imported when the first one comes."""

import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serving.errors import ServiceError
from serving.jobs import bulk, queue
from serving.jobs.results import Results, ResultsError, results_of
from serving.releases.loader import Loaded
from serving.settings import Settings

# Told level, message, facts and metrics, as one line of the log.
Log = Callable[[str, str, dict[str, Any], Mapping[str, float]], None]


@dataclass(frozen=True)
class Worker:
    """What both kinds of work need.

    Attributes:
        settings: the function's.
        kind: the model's `Request`.
        use: gives the release that answers.
        log: writes a line.
    """

    settings: Settings
    kind: type[BaseModel]
    use: Callable[[Callable[[], bytes]], AbstractContextManager[Loaded]]
    log: Log

    def messages(self, event: dict[str, Any]) -> dict[str, Any]:
        """Answer messages of the queue; what must come again is in the answer (see `serving.jobs.queue`)."""
        rules = queue.Rules(self.kind, self.settings.max_body_bytes, self.settings.max_batch_items)
        return queue.answer(event, rules, self.use, self._results, self._message)

    def batch(self, event: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch of a bulk file (see `serving.jobs.bulk`).

        Raises:
            BatchError: it is not answered; the message says why.
        """
        try:
            counts = bulk.answer(event, self.kind, self.use, self._results, self._defect)
        except (ServiceError, ResultsError) as error:
            code = getattr(error, "code", "storage_unavailable")
            self.log("ERROR", "batch failed", {"code": code, "reason": str(error)}, {"Errors": 1})
            raise bulk.BatchError(f"{code}: {error}") from error
        facts = {key: value for key, value in counts.items() if key != "lines"}
        self.log("INFO", "batch", facts, {"Requests": sum(facts.values())})
        return counts

    def _results(self) -> Results:
        if self.settings.bucket is None:
            raise ResultsError("the function's variable MODEL_BUCKET is not set")
        return results_of(self.settings.bucket)

    def _message(self, what: str, facts: dict[str, Any]) -> None:
        level = "INFO" if what in ("answered", "known") else "ERROR"
        self.log(level, f"message {what}", facts, {"Requests": 1} | ({"Errors": 1} if "code" in facts else {}))

    def _defect(self, index: int, defect: Exception) -> None:
        stack = "".join(traceback.format_exception(defect))
        self.log("ERROR", "item failed", {"index": index, "code": "internal_error", "exception": stack}, {"Errors": 1})
