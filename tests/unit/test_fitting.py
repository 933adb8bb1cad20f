"""What `publish` says about the size of a release, and the figures that the function decides by."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.releases.fitting import StackSizes
from serving.errors import ReleaseUnavailableError
from serving.releases.room import MEGABYTE, Room
from stack.kit import template

SIZES = st.integers(0, 12_000 * MEGABYTE)


def test_the_defaults_are_the_templates() -> None:
    """Without --stack, `publish` compares with what a new stack has."""
    rules = template()["Parameters"]
    assert StackSizes().memory == rules["MemorySize"]["Default"]
    assert StackSizes().storage == rules["EphemeralStorage"]["Default"]


def test_two_releases_of_300_mb_do_not_fit_into_a_new_stack() -> None:
    """The message has the size that is needed and the parameter to raise; one of them alone fits."""
    size = 300 * MEGABYTE
    (problem,) = StackSizes().problems(size, size)
    assert "600 MB in /tmp" in problem
    assert "EphemeralStorage=600" in problem
    assert StackSizes().problems(size, 0) == []


def test_memory_is_told_apart_from_waiting() -> None:
    """A model that never fits is refused; two that do not fit at the same time only make requests wait."""
    sizes = StackSizes(memory=1024, storage=10240)
    assert "functions refuse it" in sizes.problems(1000 * MEGABYTE, 0)[0]
    assert "requests wait" in sizes.problems(600 * MEGABYTE, 600 * MEGABYTE)[0]


@given(SIZES, SIZES, st.integers(128, 10240), st.integers(512, 10240))
def test_publish_warns_of_all_that_the_function_refuses(size: int, before: int, memory: int, storage: int) -> None:
    """Whatever the function refuses for its size, `publish` has said so before."""
    room = Room(memory * MEGABYTE)
    try:
        room.check("v", size, Path("/proc/nowhere"))
    except ReleaseUnavailableError as error:
        if error.code == "release_refused":
            assert any("refuse it" in each for each in StackSizes(memory, storage).problems(size, before))


def test_a_release_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    """What is in the cache counts, and the figures and the next step are in the message."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "weights").write_bytes(bytes(3 * MEGABYTE))
    room = Room(disk_bytes=5 * MEGABYTE)
    room.check("v", 2 * MEGABYTE, tmp_path)
    with pytest.raises(
        ReleaseUnavailableError, match=r"it has 4 MB, and of 5 MB 2 MB are free .* at least 7"
    ) as caught:
        room.check("v", 4 * MEGABYTE, tmp_path)
    assert caught.value.code == "storage_unavailable"
