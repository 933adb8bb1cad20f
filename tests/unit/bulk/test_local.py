"""How a local run cuts its file into batches."""

import pytest

from lambda_torch.bulk.local_run import FIRST_BATCHES, BatchPace


@pytest.mark.parametrize(
    ("lines", "seconds", "concurrency", "size"),
    [(100, 10, 1, 10), (100, 10, 2, 5), (100_000, 1, 2, 2000), (1, 60, 2, 1)],
)
def test_a_batch_is_about_a_seconds_work(lines: int, seconds: float, concurrency: int, size: int) -> None:
    """As fast as the environments were so far, never more lines than asked for, and never none."""
    now = [7.0]
    pace = BatchPace(concurrency, 2000, clock=lambda: now[0])
    assert pace.size() == FIRST_BATCHES
    now[0] += seconds
    pace.answered(lines)
    assert pace.size() == size


def test_the_first_batches_are_no_larger_than_asked_for() -> None:
    """Nothing is known of the model's speed yet."""
    assert BatchPace(2, 20).size() == 20
