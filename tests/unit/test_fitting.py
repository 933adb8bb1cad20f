"""What `publish` says about the size of a release, and the figures that the function decides by."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_torch.releases.fitting import StackSizes
from serving.errors import ReleaseUnavailableError
from serving.releases import room
from serving.releases.room import MEGABYTE, Room
from stack.kit import template

SIZES = st.integers(0, 12_000 * MEGABYTE)
# Of a file system that no test fills.
HUGE = 10**15


def test_the_defaults_are_the_templates() -> None:
    """Without --stack, `publish` compares with what a new stack has."""
    rules = template()["Parameters"]
    assert StackSizes().memory == rules["MemorySize"]["Default"]
    assert StackSizes().storage == rules["EphemeralStorage"]["Default"]


def test_two_releases_that_fit_into_memory_need_no_room_in_tmp() -> None:
    """A new stack takes 600 MB, and swaps between two such releases, with its 512 MB of /tmp."""
    assert StackSizes().problems(600 * MEGABYTE, 600 * MEGABYTE) == []


def test_a_swap_that_fits_nowhere_is_told() -> None:
    """The message has the sizes that are needed and the parameters to raise; one of the releases alone fits."""
    sizes, size = StackSizes(memory=3008, storage=512), 1500 * MEGABYTE
    (problem,) = sizes.problems(size, size)
    assert "3000 MB in /tmp" in problem
    assert "EphemeralStorage=3000 or more, or with MemorySize=3320 or more" in problem
    assert sizes.problems(size, 0) == []


def test_memory_is_told_apart_from_waiting() -> None:
    """A model that never fits is refused; two that do not fit at the same time only make requests wait."""
    sizes = StackSizes(memory=1024, storage=10240)
    assert "functions refuse it" in sizes.problems(1000 * MEGABYTE, 0)[0]
    assert "requests wait" in sizes.problems(600 * MEGABYTE, 600 * MEGABYTE)[0]


@given(size=SIZES, before=SIZES, memory=st.integers(128, 10240), storage=st.integers(512, 10240))
@example(size=700 * MEGABYTE, before=0, memory=1000, storage=512)
def test_publish_warns_of_all_that_the_function_refuses(size: int, before: int, memory: int, storage: int) -> None:
    """Whatever a new environment refuses for its size, `publish` has said so before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "memory_in_use", lambda: 0)
        patch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"total": HUGE, "free": HUGE}))
        try:
            Room(memory * MEGABYTE, storage * MEGABYTE).place("v", size, Path("/proc/nowhere"))
        except ReleaseUnavailableError:
            assert any("refuse it" in each for each in StackSizes(memory, storage).problems(size, before))
        else:
            assert not any("refuse it" in each for each in StackSizes(memory, storage).problems(size, before))


def test_a_large_release_goes_into_memory_and_a_small_one_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room in both, the size decides; where there is room in one, it goes there."""
    monkeypatch.setattr(room, "memory_in_use", lambda: 100 * MEGABYTE)
    ample = Room(2000 * MEGABYTE, 2000 * MEGABYTE)
    assert ample.place("v", 63 * MEGABYTE, tmp_path) == "disk"
    assert ample.place("v", 64 * MEGABYTE, tmp_path) == "memory"
    assert Room(2000 * MEGABYTE, MEGABYTE).place("v", 2 * MEGABYTE, tmp_path) == "memory"
    # 256 MB are kept for torch, though the process has only 100 yet, and 64 for building the model.
    assert ample.place("v", (2000 - 256 - 64) * MEGABYTE, tmp_path) == "memory"
    assert ample.place("v", (2000 - 256 - 64) * MEGABYTE + 1, tmp_path) == "disk"
    assert Room(disk_bytes=2000 * MEGABYTE).place("v", 1000 * MEGABYTE, tmp_path) == "disk"


def test_without_files_in_memory_every_release_goes_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without memory files or without /proc, as macOS is, the disk takes all."""
    # The tests before may have left this process with more memory than the function would have.
    monkeypatch.setattr(room, "memory_in_use", lambda: 0)
    ample, size = Room(2000 * MEGABYTE, 2000 * MEGABYTE), 100 * MEGABYTE
    assert ample.place("v", size, tmp_path) == "memory"
    with monkeypatch.context() as patch:
        patch.setattr(room, "FILES", tmp_path / "nowhere")
        assert ample.place("v", size, tmp_path) == "disk"
    monkeypatch.delattr("os.memfd_create")
    assert ample.place("v", size, tmp_path) == "disk"


def test_a_release_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the cache counts, and the figures and the next steps are in the message."""
    monkeypatch.setattr(room, "memory_in_use", lambda: 300 * MEGABYTE)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "weights").write_bytes(bytes(3 * MEGABYTE))
    for memory, expected in (
        (None, r"it has 4 MB, and of 5 MB there 2 MB are free .* EphemeralStorage to at least 7"),
        (365, r"it has 4 MB, of 5 MB there 2 MB are free .* 365 MB of memory 300 MB .* MemorySize to at least 368"),
    ):
        small = Room(memory and memory * MEGABYTE, disk_bytes=5 * MEGABYTE)
        assert small.place("v", 2 * MEGABYTE, tmp_path) == "disk"
        with pytest.raises(ReleaseUnavailableError, match=expected) as caught:
            small.place("v", 4 * MEGABYTE, tmp_path)
        assert caught.value.code == "storage_unavailable"


def test_what_must_be_built_beside_others_is_refused_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may take the place of another goes to the disk; a canary may not, and is refused with the figures."""
    monkeypatch.setattr(room, "memory_in_use", lambda: 900 * MEGABYTE)
    assert Room(1000 * MEGABYTE).place("v", 40 * MEGABYTE, tmp_path) == "disk"
    with pytest.raises(ReleaseUnavailableError, match="does not fit into memory beside the 900 MB in use"):
        Room(1000 * MEGABYTE).check_beside("v", 40 * MEGABYTE)
    Room(1000 * MEGABYTE).check_beside("v", 36 * MEGABYTE)
