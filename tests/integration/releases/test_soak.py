"""The soak of clients, swaps and killed environments, for some seconds; `make soak` runs it for three minutes."""

from soak import swaps

SECONDS = 15.0
SEED = 7


def test_every_answer_is_right_while_releases_change_and_environments_are_killed() -> None:
    """Many clients with good and bad requests get right answers and refusals; only killed environments cost requests."""
    outcome = swaps.soak(SECONDS, SEED)
    assert swaps.problems(outcome) == []
    assert outcome.kills >= 2
    assert outcome.counts["answered"] > 100
    assert outcome.counts["refused"] > 30
