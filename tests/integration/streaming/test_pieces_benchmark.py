"""The benchmark of pieces runs, and measures what it says."""

import json
import sys

import pytest
from benchmarks.pieces import __main__ as benchmark


def test_the_benchmark_times_every_piece(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each piece is counted once, and none arrives before it was made."""
    monkeypatch.setattr(sys, "argv", ["pieces", "--pieces", "7", "--pause", "0.002"])
    benchmark.main()
    told = json.loads(capsys.readouterr().out)
    assert told["pieces"] == 7
    assert 0 < told["median_ms"] <= told["p99_ms"]
