"""The side file: what is written is read back, and a file that is not sound is refused."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import SideFileError
from builder.native.side_file import Block, ColdLibrary, Fragment, SideFileWriter, compressor, read_index

PAGE = 4096


def _library(name: str, pieces: list[tuple[int, int]], per_block: int) -> ColdLibrary:
    address, fragments = 0, []
    for gap, pages in pieces:
        address += gap * PAGE
        fragments.append(Fragment(address, pages * PAGE))
        address += pages * PAGE
    blocks = tuple(
        Block(tuple(fragments[start : start + per_block]), 5, 1, stored=7, offset=64)
        for start in range(0, len(fragments), per_block)
    )
    return ColdLibrary(name, name.encode().ljust(16, b"\0")[:16], blocks)


libraries = st.lists(
    st.builds(
        _library,
        st.text("abc/.", min_size=1, max_size=12),
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=12),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=4,
)


@given(libraries)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_index_round_trip(tmp_path: Path, written: list[ColdLibrary]) -> None:
    """Libraries, blocks and fragments come back as they were written."""
    path = tmp_path / "libraries.cold"
    with SideFileWriter(path, machine=62) as cold:
        cold.libraries.extend(written)
    assert read_index(path) == written


def test_frames_are_where_the_index_says(tmp_path: Path) -> None:
    """A block's frame lies at its offset in the file."""
    path, frame = tmp_path / "libraries.cold", compressor(3).compress(b"x" * PAGE)
    with SideFileWriter(path, machine=62) as cold:
        offset = cold.add_frame(frame)
        cold.libraries.append(ColdLibrary("a", bytes(16), (Block((Fragment(0, PAGE),), 5, 0, len(frame), offset),)))
    block = read_index(path)[0].blocks[0]
    assert path.read_bytes()[block.offset : block.offset + block.stored] == frame
    assert block.fragments == (Fragment(0, PAGE),)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    """When a split fails in the middle, there is neither a side file nor a part of one, and an old one is as it was."""
    path = tmp_path / "libraries.cold"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), SideFileWriter(path, machine=62) as cold:
        cold.add_frame("not bytes")  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["libraries.cold"]
    assert path.read_bytes() == b"old"


def test_fragments_must_be_in_order(tmp_path: Path) -> None:
    """The pager searches fragments by address, so a writer refuses any other order."""
    path = tmp_path / "libraries.cold"
    blocks = (Block((Fragment(PAGE, PAGE),), 5, 0, 1, 0), Block((Fragment(0, PAGE),), 5, 0, 1, 0))
    with pytest.raises(ValueError, match="not in order"), SideFileWriter(path, machine=62) as cold:
        cold.libraries.append(ColdLibrary("a", bytes(16), blocks))


@pytest.mark.parametrize("kept", [0, 7, 63, 64, 100])
def test_a_cut_file_is_refused(tmp_path: Path, kept: int) -> None:
    """A file that is cut anywhere is refused by name."""
    path = tmp_path / "libraries.cold"
    with SideFileWriter(path, machine=62) as cold:
        cold.add_frame(bytes(100))
        cold.libraries.append(_library("a", [(0, 1)], 1))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SideFileError, match=r"libraries\.cold"):
        read_index(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A side file that is not there is named."""
    with pytest.raises(SideFileError, match=r"nowhere\.cold"):
        read_index(tmp_path / "nowhere.cold")


@given(st.integers(0, 1 << 20), st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_goes_unseen(tmp_path: Path, position: int, bit: int) -> None:
    """A flipped bit of header or index is refused, or leaves what was read as it was (an unused bit)."""
    path = tmp_path / "libraries.cold"
    written = [_library("torch/lib/libx.so", [(1, 2), (3, 4), (0, 1)], 2)]
    with SideFileWriter(path, machine=62) as cold:
        cold.libraries.extend(written)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        assert read_index(path) == written
    except SideFileError as error:
        assert "libraries.cold" in str(error)
