"""Small split libraries, made once, and what they compute when they are not split."""

import ctypes
from pathlib import Path

import pytest

from paging.kit import FUNCTIONS, PLAIN, Tree, unsplit


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Both libraries as compiled."""
    return unsplit(tmp_path_factory.mktemp("whole") / "tree")


@pytest.fixture(scope="session")
def split(whole: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Both libraries with all their code cold, for reading only."""
    tree = whole.copy(tmp_path_factory.mktemp("split") / "tree")
    tree.split()
    return tree


@pytest.fixture
def broken(split: Tree, tmp_path: Path) -> Tree:
    """A copy of the split tree to damage."""
    return split.copy(tmp_path / "tree")


@pytest.fixture(scope="session")
def expected(whole: Tree) -> list[int]:
    """What the functions of the plain library return for 1."""
    library = ctypes.CDLL(str(whole.root / PLAIN))
    library.call.restype, library.call.argtypes = ctypes.c_uint64, [ctypes.c_int, ctypes.c_uint64]
    return [library.call(number, 1) for number in range(FUNCTIONS)]
