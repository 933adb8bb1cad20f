"""`lambda-torch tune` on a noisy machine."""

from collections.abc import Callable

from lambda_torch.tuning.measure import Times
from lambda_torch.tuning.settling import ROUNDS, settled


def measured(*rounds: dict[int, float]) -> tuple[Callable[[int], Times], list[int]]:
    """A machine that gives these medians, one for each time a size is measured; and the sizes that were measured."""
    order: list[int] = []

    def measure(size: int) -> Times:
        order.append(size)
        return Times(1000.0, [rounds[min(order.count(size), len(rounds)) - 1][size]] * 10, None)

    return measure, order


def test_a_quiet_machine_is_measured_once() -> None:
    """Sizes that get quicker, or stay as quick within 5 %, are taken as they are."""
    measure, order = measured({1024: 10.0, 1769: 6.0, 3008: 6.2})
    times, noisy = settled([1024, 1769, 3008], measure, lambda _: None)
    assert (order, noisy) == ([1024, 1769, 3008], [])
    assert list(times) == [1024, 1769, 3008]


def test_what_contradicts_itself_is_measured_again() -> None:
    """A larger size that is slower is measured again, together with the smaller one; the quickest rounds count."""
    measure, order = measured({1024: 10.0, 1769: 15.0, 3008: 15.0}, {1024: 11.0, 1769: 6.0, 3008: 5.0})
    said: list[str] = []
    times, noisy = settled([1024, 1769, 3008], measure, said.append)
    assert order[3:] == [1024, 1769, 1769, 3008]
    assert noisy == []
    assert times[1024].warm_ms[0] == 10.0
    assert times[1769].warm_ms[0] == 6.0
    assert said[0].startswith("1769 MB was slower than 1024 MB")


def test_a_machine_that_stays_noisy_is_told_as_such() -> None:
    """After the last round the pairs that still contradict each other are returned."""
    measure, order = measured({1024: 10.0, 1769: 20.0})
    _, noisy = settled([1024, 1769], measure, lambda _: None)
    assert noisy == [(1024, 1769)]
    assert order == [1024, 1769] * ROUNDS
