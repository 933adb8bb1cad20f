"""A run on this machine: a pool of environments answers several batches at the same time. Lines are written in order."""

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
    from lambda_torch.emulator.function import InvokeResult
    from lambda_torch.emulator.pool import Pool

# How many batches wait for each environment, so that it always has work.
AHEAD = 3
TRIES = 3
# The time that a batch should take in one environment: much longer than an invocation's own cost, and shorter than the
# timeout.
BATCH_SECONDS = 1.0
# The size of the first batches, when the speed of the model is not known.
FIRST_BATCHES = 50


@dataclass
class BatchPace:
    """Decides how many lines are in a batch.

    Args:
        concurrency: the number of environments.
        most: the most lines in a batch.
        clock: gives the time in seconds.
    """

    concurrency: int
    most: int
    clock: Callable[[], float] = time.monotonic
    _done: int = 0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def answered(self, lines: int) -> None:
        """Note that so many more lines are done."""
        self._done += lines

    def size(self) -> int:
        """The number of lines that one environment answers in BATCH_SECONDS, at the speed so far."""
        seconds = self.clock() - self._began
        if not self._done or seconds <= 0:
            return min(FIRST_BATCHES, self.most)
        return max(1, min(self.most, round(self._done / seconds / self.concurrency * BATCH_SECONDS)))


def run(
    source: Input, output: Output, pool: "Pool", concurrency: int, most: int, on_lines: Callable[[int], None]
) -> None:
    """Answer the lines that are not in the output yet.

    Args:
        concurrency: the number of environments in the pool.
        most: the most lines in a batch.
        on_lines: called with the number of lines in the output, after each batch.

    Raises:
        BulkError: a batch was not answered in TRIES tries. The lines before it are written.
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
            "The lines before them are written. Next: correct the cause (if the time ran out, use a smaller --batch or a "
            "longer --timeout), and give the same command again."
        )
    found: dict[str, object] = json.loads(outcome.payload)
    return found


def _write(output: Output, batch: Batch, answer: dict[str, object]) -> None:
    lines = str(answer["lines"])
    if lines.count("\n") != len(batch.lines):
        raise BulkError(
            f"The function gave {lines.count(chr(10))} lines for {len(batch.lines)}, beginning at line {batch.first + 1}."
        )
    for name in ("answered", "refused", "failed"):
        setattr(output.counts, name, getattr(output.counts, name) + answer[name])
    output.write(lines.encode(), len(batch.lines))
