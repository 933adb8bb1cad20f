"""The archive of modules: what the builder writes is what the run-time reader gives."""

import importlib
import platform
import shutil
import sys
from pathlib import Path
from types import ModuleType

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


def test_few_blocks_stay_in_memory(tmp_path: Path, reader: ModuleType, decoder: str) -> None:
    """However many modules are read, no more than KEPT_BLOCKS decompressed blocks are kept."""
    blobs = [Blob(f"m/{number}.py", True, bytes([number]) * 1000) for number in range(20)]
    archive_writer.write(tmp_path / "modules.cold", {}, [BlobGroup(blobs, (), 1000)])
    opened = reader.ModuleArchive(str(tmp_path / "modules.cold"), decoder)
    for blob in blobs:
        assert bytes(opened.bytecode(blob.path)) == blob.data
    assert len(opened._kept) == reader.KEPT_BLOCKS
