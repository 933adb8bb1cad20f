"""The fuzzer of programs and weights, for a minute; `make fuzz` runs it for ten."""

from pathlib import Path

from fuzz.programs import fuzz

SECONDS = 60.0
SEED = 12


def test_changed_programs_and_weights_are_refused_or_mean_what_was_checked(tmp_path: Path) -> None:
    """In a minute of changes to real files checks only refuse, and what is let through does nothing that it must not."""
    outcome = fuzz(SECONDS, SEED, tmp_path / "kept")
    assert outcome.findings == []
    assert outcome.counts["refused by the check"] > 20
    assert sum(count for what, count in outcome.counts.items() if what.startswith("let through")) > 0
