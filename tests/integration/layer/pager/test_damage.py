"""What the pager says when it cannot do its work: always the file, the reason and the next step, and never a bare crash."""

import shutil
import signal
import struct
from collections.abc import Callable

import pytest

from builder.native.side_file import HEADER
from builder.native.split import LibraryPlan
from paging.kit import PLAIN, USE_BOTH, Tree

TOUCH = USE_BOTH + "call_all(plain)\nprint('done')"


def _fails(tree: Tree, *words: str, program: str = TOUCH, **environment: str) -> None:
    done = tree.run(program, **environment)
    assert done.returncode == -signal.SIGABRT
    assert "done" not in done.stdout
    for word in ("torch layer: ", "Next: ", *words):
        assert word in done.stderr


@pytest.mark.parametrize(
    ("mode", "words"),
    [("off", ("TORCH_LAYER_PAGER=off is refused",)), ("lazy", ("TORCH_LAYER_PAGER=lazy is not known",))],
)
def test_modes_that_there_are_not(split: Tree, mode: str, words: tuple[str, ...]) -> None:
    """A mode that the pager cannot run in, or does not know, is refused at load."""
    _fails(split, *words, TORCH_LAYER_PAGER=mode)


@pytest.mark.parametrize("mode", ["", "on"])
def test_modes_that_mean_nothing_special(split: Tree, mode: str) -> None:
    """An empty mode and "on" are the default."""
    assert split.run(TOUCH, TORCH_LAYER_PAGER=mode).stdout == "done\n"


def test_missing_side_file(broken: Tree) -> None:
    """Without its side file a library is refused at load."""
    broken.side_file.unlink()
    _fails(broken, str(broken.side_file), "is missing")


def test_cut_side_file(broken: Tree) -> None:
    """A side file of another length than it says is refused at load."""
    data = broken.side_file.read_bytes()
    for kept in (0, 20, HEADER.size, len(data) // 2, len(data) - 1):
        broken.side_file.write_bytes(data[:kept])
        _fails(broken, str(broken.side_file), "is cut short")


def _magic(data: bytearray) -> None:
    data[0] ^= 1


def _version(data: bytearray) -> None:
    data[8] += 1


def _machine(data: bytearray) -> None:
    data[12] ^= 0xFF


def _page(data: bytearray) -> None:
    struct.pack_into("<I", data, 16, 65536)


def _flags(data: bytearray) -> None:
    data[20] = 1


def _index(data: bytearray) -> None:
    (offset,) = struct.unpack_from("<Q", data, 24)
    data[offset + 40] ^= 0x10


def _index_extent(data: bytearray) -> None:
    struct.pack_into("<Q", data, 32, 1 << 40)


def _index_size(data: bytearray) -> None:
    struct.pack_into("<Q", data, 40, struct.unpack_from("<Q", data, 40)[0] - 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_magic, "is not a side file"),
        (_version, "format that this pager does not know"),
        (_machine, "another processor architecture"),
        (_page, "another page size"),
        (_index, "damaged index"),
        (_index_extent, "damaged header"),
        (_index_size, "damaged index"),
        (_flags, "damaged header"),
    ],
)
def test_damaged_tables(broken: Tree, damage: Callable[[bytearray], None], words: str) -> None:
    """A damaged header or index is refused at load, before any code could be taken from the wrong place."""
    data = bytearray(broken.side_file.read_bytes())
    damage(data)
    broken.side_file.write_bytes(data)
    _fails(broken, str(broken.side_file), words)


def test_a_damaged_block(broken: Tree) -> None:
    """A single wrong bit in a block is found when the block is touched, before any of its code runs."""
    data = bytearray(broken.side_file.read_bytes())
    (index,) = struct.unpack_from("<Q", data, 24)
    data[index // 2] ^= 4
    broken.side_file.write_bytes(data)
    _fails(broken, str(broken.side_file), "is damaged: block ")


def test_side_file_of_another_build(broken: Tree, whole: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A side file that was made together with other libraries is refused, though it is sound itself."""
    other = whole.copy(tmp_path_factory.mktemp("other") / "tree")
    other.split({PLAIN: LibraryPlan(frozenset({3}))})
    shutil.copy(other.side_file, broken.side_file)
    _fails(broken, str(broken.side_file), "of another build than", "libplain.so")


def test_a_missing_pager_is_the_loaders_error(broken: Tree) -> None:
    """Without the pager a split library does not load, and the loader's message names what is missing."""
    for name in ("libtorch_layer_pager.so", "libtorch_layer_companion_0.so"):
        (broken.side_file.parent / name).unlink()
        done = broken.run(TOUCH)
        assert done.returncode == 1
        assert "OSError: libtorch_layer_companion_0.so: cannot open shared object file" in done.stderr or (
            "OSError: libtorch_layer_pager.so: cannot open shared object file" in done.stderr
        )
