"""The archive of modules: what the builder writes is what the run-time reader gives."""

import importlib
import platform
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import paths
from builder.native.side_file import SideFileWriter
from builder.python import archive_writer
from builder.python.archive_writer import Blob, BlobGroup
from paging.kit import compiled_pager
from torch_layer import PAGER_LIBRARY, SIDE_FILE


@pytest.fixture(scope="session")
def reader() -> ModuleType:
    """The run-time module `torch_layer.archive`."""
    sys.path.insert(0, str(paths.LAYER))
    try:
        return importlib.import_module("torch_layer.archive")
    finally:
        sys.path.remove(str(paths.LAYER))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled pager, beside the side file that it opens when it is loaded."""
    folder = tmp_path_factory.mktemp("decoder") / "torch_layer"
    shutil.copytree(compiled_pager(), folder)
    with SideFileWriter(folder / SIDE_FILE, {"x86_64": 62, "aarch64": 183}[platform.machine()]):
        pass
    return str(folder / PAGER_LIBRARY)


PATHS = st.from_regex(r"[a-z]{1,3}/[a-z]{1,6}\.py", fullmatch=True)
DATA = st.binary(max_size=300) | st.binary(min_size=1, max_size=4).map(lambda part: part * 500)


@given(st.dictionaries(PATHS, st.tuples(DATA, DATA), max_size=30), st.integers(1, 3000), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_every_member_comes_back(
    tmp_path: Path,
    reader: ModuleType,
    decoder: str,
    members: dict[str, tuple[bytes, bytes]],
    block_bytes: int,
    together: bool,
) -> None:
    """Code and source of any modules come back byte for byte, from blocks of any size, with and without a prefix."""
    code = [Blob(path, True, data) for path, (data, _) in members.items()]
    source = [Blob(path, False, data) for path, (_, data) in members.items()]
    groups = (
        [BlobGroup(code, source, block_bytes)]
        if together
        else [BlobGroup(source, (), block_bytes), BlobGroup(code, (), block_bytes)]
    )
    size = archive_writer.write(tmp_path / "modules.cold", {"any": "head"}, groups, level=3)
    assert size == (tmp_path / "modules.cold").stat().st_size
    opened = reader.ModuleArchive(str(tmp_path / "modules.cold"), decoder)
    assert opened.head == {"any": "head"}
    for path in reversed(list(members)):
        assert opened.source(path) == members[path][1]
        assert bytes(opened.bytecode(path)) == members[path][0]
    assert opened.bytecode("not/there.py") is None
    assert opened.source("not/there.py") is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_the_blocks_used_last_stay_in_memory(
    tmp_path: Path, reader: ModuleType, decoder: str, order: list[int], room: int
) -> None:
    """In whatever order modules are read, the blocks that were used last are kept, as many as KEPT_BYTES has room for."""
    blobs = [Blob(f"m/{number}.py", True, bytes([number]) * 1000) for number in range(10)]
    archive_writer.write(tmp_path / "modules.cold", {}, [BlobGroup(blobs, (), 1000)], level=3)
    opened = reader.ModuleArchive(str(tmp_path / "modules.cold"), decoder)
    with patch.object(reader, "KEPT_BYTES", room):
        for number in order:
            assert bytes(opened.bytecode(blobs[number].path)) == blobs[number].data
    last_first = list(dict.fromkeys(reversed(order)))
    assert list(opened._kept) == last_first[: max(room // 1000, 1)]


def test_a_prefix_stays_in_memory(tmp_path: Path, reader: ModuleType, decoder: str) -> None:
    """Sources are decompressed with their code, and the code's block is there for what is read next."""
    code, source = Blob("m/one.py", True, b"code" * 500), Blob("m/one.py", False, b"text" * 500)
    archive_writer.write(tmp_path / "modules.cold", {}, [BlobGroup([code], [source], 1000)], level=3)
    opened = reader.ModuleArchive(str(tmp_path / "modules.cold"), decoder)
    assert opened.source("m/one.py") == source.data
    with patch.object(opened, "_block", side_effect=AssertionError("decompressed again")):
        assert bytes(opened.bytecode("m/one.py")) == code.data
    opened.forget()
    assert opened._kept == {}
