"""Writes `modules.cold`, the archive that `torch_layer.archive` reads. DESIGN.md, "The Python half", has the format."""

import marshal
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from builder.memo import NOTHING_KEPT, Memo
from torch_layer import ARCHIVE_HEADER_BYTES, ARCHIVE_MAGIC, ARCHIVE_VERSION

MAGIC, VERSION, HEADER_BYTES = ARCHIVE_MAGIC, ARCHIVE_VERSION, ARCHIVE_HEADER_BYTES
# A block is decompressed as a whole. The larger it is, the better it packs, and the longer its first use takes.
BLOCK_BYTES = 4 << 20
FAR_BLOCK_BYTES = 8 << 20  # of modules that few programs import
LEVEL = 19


class Blob(NamedTuple):
    """The code or the source of a module."""

    path: str  # of the source below the layer's root, `sympy/core/add.py`
    is_code: bool
    data: bytes


class BlobGroup(NamedTuple):
    """Blobs, in the order in which programs will read them. No block holds blobs of two groups.

    `beside` are the sources of the modules whose code is in `blobs`. They go into blocks of their own. Each is
    compressed with the code of the same modules as its prefix, since both have most of their strings in common. To read
    only the code, the block of sources is not needed.
    """

    blobs: Sequence[Blob]
    beside: Sequence[Blob] = ()
    block_bytes: int = BLOCK_BYTES  # a block ends when it has this many bytes or more


class ArchiveBlock(NamedTuple):
    """One zstd frame of the archive. `prefix` is the number of the block that must be decompressed before it; -1 if none."""

    offset: int
    stored: int
    bytes: int
    crc: int
    prefix: int


class Index(NamedTuple):
    """What an archive holds. `code` and `source` map paths to block number, offset in the block, and bytes."""

    head: Any
    blocks: tuple[ArchiveBlock, ...]
    code: dict[str, tuple[int, int, int]]
    source: dict[str, tuple[int, int, int]]


def write(
    path: Path,
    head: Any,
    groups: Sequence[BlobGroup],
    *,
    level: int = LEVEL,
    memo: Memo = NOTHING_KEPT,
    progress: Callable[[float], None] = lambda _part: None,
) -> int:
    """Write the archive and return its size in bytes. The same arguments give the same file.

    Args:
        path: The file to write.
        head: What the reader gets with the first index: any value that `marshal` can write.
        groups: What it holds.
        level: zstd's compression level.
        memo: Where compressed blocks are kept for the next build.
        progress: Called with the part that is done, 0 to 1.
    """
    blocks, prefixes = _arrange(groups)
    code: dict[str, tuple[int, int, int]] = {}
    source: dict[str, tuple[int, int, int]] = {}
    for number, block in enumerate(blocks):
        offset = 0
        for blob in block:
            (code if blob.is_code else source)[blob.path] = (number, offset, len(blob.data))
            offset += len(blob.data)
    table: list[tuple[int, int, int, int, int]] = []
    with path.open("wb") as file, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        file.write(bytes(HEADER_BYTES))
        before = [blocks[prefix] if prefix >= 0 else () for prefix in prefixes]
        for number, packed in enumerate(
            pool.map(lambda block, first: _pack(block, first, level, memo), blocks, before)
        ):
            size = sum(len(blob.data) for blob in blocks[number])
            table.append((file.tell(), len(packed), size, zlib.crc32(packed), prefixes[number]))
            file.write(packed)
            progress((number + 1) / len(blocks))
        numbers = [VERSION]
        for index in ((head, table, code), source):
            # Version 2 of marshal's format has no back references, so equal values give equal bytes.
            packed = zlib.compress(marshal.dumps(index, 2), 9)
            numbers += [file.tell(), len(packed), zlib.crc32(packed)]
            file.write(packed)
        size = file.tell()
        file.seek(0)
        file.write(MAGIC + b"".join(number.to_bytes(8, "little") for number in numbers))
    return size


def _arrange(groups: Sequence[BlobGroup]) -> tuple[list[list[Blob]], list[int]]:
    """All blocks, and for each the number of the block that is its prefix, or -1."""
    blocks: list[list[Blob]] = []
    prefixes: list[int] = []
    for group in groups:
        beside = {blob.path: blob for blob in group.beside}
        cut = _cut(group.blobs, group.block_bytes)
        sources = [[beside[blob.path] for blob in block if blob.path in beside] for block in cut]
        first = len(blocks)
        blocks += cut
        prefixes += [-1] * len(cut)
        for number, block in enumerate(sources):
            if block:
                blocks.append(block)
                prefixes.append(first + number)
    return blocks, prefixes


def _cut(group: Sequence[Blob], block_bytes: int) -> list[list[Blob]]:
    blocks: list[list[Blob]] = []
    size = block_bytes
    for blob in group:
        if size >= block_bytes:
            blocks.append([])
            size = 0
        blocks[-1].append(blob)
        size += len(blob.data)
    return blocks


def _pack(block: Sequence[Blob], before: Sequence[Blob], level: int, memo: Memo) -> bytes:
    data, prefix = (b"".join(blob.data for blob in each) for each in (block, before))
    parameters = f"module block {level} {zstandard.__version__} {zstandard.ZSTD_VERSION}".encode()
    return memo.result([parameters, prefix, data], lambda: _compress(data, prefix, level))


def _compress(data: bytes, prefix: bytes, level: int) -> bytes:
    if not prefix:
        return zstandard.ZstdCompressor(level=level).compress(data)
    size = len(data) + len(prefix)
    window = max(size - 1, 1).bit_length()  # reaches back to the beginning of the prefix
    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=size, window_log=max(window, 10))
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data)


def read_index(path: Path) -> Index:
    """What an archive holds. Raises `ValueError` for a damaged file."""
    data = path.read_bytes()
    numbers = [int.from_bytes(data[at : at + 8], "little") for at in range(8, HEADER_BYTES, 8)]
    if data[:8] != MAGIC or numbers[0] != VERSION:
        raise ValueError(f"it is not of format {VERSION}")
    parts = []
    for offset, count, crc in (numbers[1:4], numbers[4:7]):
        packed = data[offset : offset + count]
        if zlib.crc32(packed) != crc:
            raise ValueError("the checksum of its index does not fit")
        parts.append(marshal.loads(zlib.decompress(packed)))  # noqa: S302 -- the checksum fits: it is our own
    (head, blocks, code), source = parts
    return Index(head, tuple(ArchiveBlock(*block) for block in blocks), code, source)
