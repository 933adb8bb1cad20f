"""How many threads the layer lets torch have, by the function's memory size."""

import os

import pytest

from torch_layer import start


@pytest.mark.parametrize(
    ("memory", "threads"),
    [("128", "1"), ("1769", "1"), ("3008", "1"), ("3538", "2"), ("10240", "5"), ("", None), ("much", None)],
)
def test_a_thread_for_each_whole_vcpu(memory: str, threads: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,769 MB are one vCPU. Where Lambda says no memory size, nothing is set."""
    monkeypatch.setenv(start.MEMORY_VARIABLE, memory)
    for name in start.THREAD_VARIABLES:
        # Set first, so that the test's end takes away what the layer sets.
        monkeypatch.setenv(name, "9")
        del os.environ[name]
    start.limit_threads()
    assert [os.environ.get(name) for name in start.THREAD_VARIABLES] == [threads] * 2


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of threads that is set already is not changed."""
    monkeypatch.setenv(start.MEMORY_VARIABLE, "1769")
    for name in start.THREAD_VARIABLES:
        monkeypatch.setenv(name, "4")
    start.limit_threads()
    assert [os.environ[name] for name in start.THREAD_VARIABLES] == ["4", "4"]
