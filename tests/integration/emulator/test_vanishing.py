"""The soak of `make bench-local`, for some seconds."""

from pathlib import Path

from benchmarks.load import vanishing


def test_clients_that_go_away_leave_nothing_behind(tmp_path: Path) -> None:
    """After many clients that went away at random, there are no more processes, threads, sockets and generators than before."""
    found = vanishing.measure(tmp_path, 6)
    assert found["left"] == {"processes": 0, "threads": 0, "files": 0}
    assert (found["errors"], found["open_generators"]) == (0, 0)
    assert found["streams"] > vanishing.CLIENTS
    assert found["ends"].keys() >= {"in the middle", "reset"}
