"""Measures memory sizes until the figures can be right: more memory is more CPU, so it is not slower."""

import itertools
import statistics
from collections.abc import Callable, Sequence

from lambda_torch.tuning.measure import Times

# A larger size may seem slower by this factor: where one CPU is enough, the two differ by chance alone.
SLOWER = 1.05
# How often a size is measured at most.
ROUNDS = 4


def settled(
    sizes: Sequence[int], measure: Callable[[int], Times], say: Callable[[str], None]
) -> tuple[dict[int, Times], list[tuple[int, int]]]:
    """Measure each size, and measure again those that contradict each other. The quickest round of a size counts.

    Other work on the machine makes a round slower and never quicker, so the quickest has the least of it.

    Args:
        sizes: in MB, in rising order.
        measure: measures one size.
        say: gets a line that says what is measured again, and why.

    Returns:
        The times of each size, and the pairs that still contradict each other: a size, and a larger one that is slower.
    """
    times = {size: measure(size) for size in sizes}
    for _ in range(ROUNDS - 1):
        pairs = contradictions(times)
        if not pairs:
            break
        small, large = pairs[0]
        say(f"{large} MB was slower than {small} MB, which only other work on this machine explains: measuring again")
        for size in sorted({size for pair in pairs for size in pair}):
            again = measure(size)
            if statistics.median(again.warm_ms) < statistics.median(times[size].warm_ms):
                times[size] = again
    return times, contradictions(times)


def contradictions(times: dict[int, Times]) -> list[tuple[int, int]]:
    """Neighbouring sizes of which the larger is slower."""
    sizes = sorted(times)
    middle = {size: statistics.median(times[size].warm_ms) for size in sizes}
    return [(a, b) for a, b in itertools.pairwise(sizes) if middle[b] > SLOWER * middle[a]]
