"""The decoding benchmark runs, and measures what it says."""

from pathlib import Path

import pytest
from benchmarks import decoding

from model import Model


def test_a_row_of_the_decoding_benchmark(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways write the same 64 names, and the row has both times and their ratio."""
    monkeypatch.setattr(decoding, "ROUNDS", {64: 1})
    monkeypatch.setattr(decoding, "WARM_UP", 0)
    model = Model.load(release)

    row = decoding.measure(model, decoding.tutorial_of(release, model), 64)

    assert row["start_letters"] == 64
    assert row["ratio"] == pytest.approx(row["post_ms"] / row["ours_ms"], rel=0.1, abs=0.1)  # it is rounded


def test_different_names_stop_the_benchmark(release: Path) -> None:
    """If the two ways do not write the same, there is no figure."""
    model = Model.load(release)
    tutorial = decoding.tutorial_of(release, model)
    tutorial.max_length = 1
    with pytest.raises(SystemExit, match="The two ways write different names"):
        decoding.measure(model, tutorial, 3)
