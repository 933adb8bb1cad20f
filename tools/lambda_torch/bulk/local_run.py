"""A run on this machine: batches through a pool of environments, several at a time, their lines written in order."""

import collections
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambda_torch.bulk.lines import Batch, Input, batches
from lambda_torch.bulk.output import Output
from lambda_torch.errors import BulkError

if TYPE_CHECKING:
    from lambda_torch.emulator.environment import InvokeResult
    from lambda_torch.emulator.pool import Pool

# Batches that wait for each environment, so that none is idle while the next one is made and an answer is written.
AHEAD = 3
TRIES = 3
# A batch is so much work of one environment: an invocation costs milliseconds, and a function has seconds until it is ended.
BATCH_SECONDS = 1.0
# Until it is known how fast the model is.
FIRST_BATCHES = 50


@dataclass
class BatchPace:
    """How many lines make a batch.

    Args:
        concurrency: environments that work on them.
        most: the most lines in a batch.
        clock: seconds.
    """

    concurrency: int
    most: int
    clock: Callable[[], float] = time.monotonic
    _done: int = 0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def answered(self, lines: int) -> None:
        """So many more are done."""
        self._done += lines

    def size(self) -> int:
        """BATCH_SECONDS of an environment's work, as fast as they were so far."""
        seconds = self.clock() - self._began
        if not self._done or seconds <= 0:
            return min(FIRST_BATCHES, self.most)
        return max(1, min(self.most, round(self._done / seconds / self.concurrency * BATCH_SECONDS)))


def run(
    source: Input, output: Output, pool: "Pool", concurrency: int, most: int, on_lines: Callable[[int], None]
) -> None:
    """Answer what the output has not yet.

    Args:
        concurrency: the pool's environments.
        most: the most lines in a batch.
        on_lines: told how many lines are there, whenever a batch was written.

    Raises:
        BulkError: a batch was not answered in TRIES tries; what is before it is written.
    """
    waiting: collections.deque[tuple[Batch, Future[InvokeResult]]] = collections.deque()
    pace = BatchPace(concurrency, most)
    coming: Iterator[Batch] = batches(source, pace.size, output.done)
    try:
        while True:
            while len(waiting) < AHEAD * concurrency and (batch := next(coming, None)) is not None:
                waiting.append((batch, pool.submit(batch.event())))
            if not waiting:
                return
            batch, answer = waiting.popleft()
            _write(output, batch, _lines(pool, batch, answer.result()))
            pace.answered(len(batch.lines))
            on_lines(output.done)
    finally:
        for _, answer in waiting:
            answer.cancel()


def _lines(pool: "Pool", batch: Batch, outcome: "InvokeResult") -> dict[str, object]:
    for _ in range(TRIES - 1):
        if not outcome.failed:
            break
        outcome = pool.submit(batch.event()).result()
    if outcome.failed:
        last = batch.first + len(batch.lines)
        said = outcome.payload.decode(errors="replace")[:500]
        raise BulkError(
            f"Lines {batch.first + 1} to {last} were not answered in {TRIES} tries: {said}\n"
            "What is before them is written. Next: mend the cause (where time ran out, a smaller --batch or a longer --timeout), "
            "and give the same command again."
        )
    found: dict[str, object] = json.loads(outcome.payload)
    return found


def _write(output: Output, batch: Batch, answer: dict[str, object]) -> None:
    lines = str(answer["lines"])
    if lines.count("\n") != len(batch.lines):
        raise BulkError(
            f"The function gave {lines.count(chr(10))} lines for {len(batch.lines)}, from {batch.first + 1} on."
        )
    for name in ("answered", "refused", "failed"):
        setattr(output.counts, name, getattr(output.counts, name) + answer[name])
    output.write(lines.encode(), len(batch.lines))
