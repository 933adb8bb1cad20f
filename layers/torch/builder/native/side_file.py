"""The side file `libraries.cold`: the compressed half of all split libraries (pager/pager.h has the same structures).

    header   56 bytes, see `HEADER`
    frames   one zstd frame per block, each with zstd's checksum of its content
    index    one zstd frame with a checksum: counts, then all libraries, all blocks, all fragments, and the names

A *fragment* is a run of cold pages of a library. A *block* is the bytes of one or more fragments that follow each
other: it is compressed as a whole, and brought back as a whole. If `stored` is 0, the library itself has the block's
bytes, without access rights: a recording tree is made so. All numbers are little-endian.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import zstandard

from builder.errors import SideFileError
from builder.native.page_set import PAGE_BYTES
from torch_layer import SIDE_FILE, SIDE_FILE_MAGIC

MAGIC = SIDE_FILE_MAGIC
VERSION = 1
ID_BYTES = 16
FILE_NAME = SIDE_FILE

HEADER = struct.Struct("<8s4I4Q")
_COUNTS = struct.Struct("<4I")
_LIBRARY = struct.Struct(f"<{ID_BYTES}s6I")
_BLOCK = struct.Struct("<Q6I")
_FRAGMENT = struct.Struct("<QII")
_REBUILD = "build the layer again, and deploy all of it together"


class Fragment(NamedTuple):
    """A run of cold pages: library address and size in bytes, both multiples of the page size."""

    address: int
    bytes: int


@dataclass(frozen=True)
class Block:
    """Fragments that are brought back together, and the rights and the filter that they share."""

    fragments: tuple[Fragment, ...]
    protection: int  # PROT_READ 1, PROT_EXEC 4 (mman-linux.h)
    filter: int  # branch_filter.NONE or X86, or arm64_filter.ARM64 (builder.native)
    stored: int = 0  # bytes of the zstd frame; 0: in the library itself
    offset: int = 0  # of the frame in the side file

    @property
    def bytes(self) -> int:
        """The block's size in memory."""
        return sum(fragment.bytes for fragment in self.fragments)


@dataclass(frozen=True)
class ColdLibrary:
    """One library's part of the side file."""

    name: str  # path relative to the layer's Python folder
    id: bytes
    blocks: tuple[Block, ...]


class SideFileWriter:
    """Writes a side file. It gets its name only when it is complete.

    Example:
        >>> with SideFileWriter(path, machine=62) as cold:
        ...     offset = cold.add_frame(frame)
        ...     cold.libraries.append(ColdLibrary(...))
    """

    def __init__(self, path: Path, machine: int) -> None:
        self.path = path
        self.machine = machine
        self.libraries: list[ColdLibrary] = []
        self._partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._partial.open("wb")
        self._file.write(bytes(HEADER.size))
        return self

    def add_frame(self, frame: bytes) -> int:
        """Append one compressed block; returns its offset in the file."""
        offset = self._file.tell()
        self._file.write(frame)
        return offset

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._file.close()
            if error is None:
                self._partial.replace(self.path)
            else:
                self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        raw = _pack_index(self.libraries)
        index = compressor(19).compress(raw)
        offset = self.add_frame(index)
        self._file.seek(0)
        self._file.write(
            HEADER.pack(MAGIC, VERSION, self.machine, PAGE_BYTES, 0, offset, len(index), len(raw), offset + len(index))
        )


def compressor(level: int) -> zstandard.ZstdCompressor:
    """A compressor whose frames have their size and a checksum of their content. The pager's decoder verifies both."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)


def _pack_index(libraries: Sequence[ColdLibrary]) -> bytes:
    tables: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    names = bytearray()
    for library in libraries:
        _pack_library(library, tables, len(names))
        names += library.name.encode() + b"\0"
    counts = _COUNTS.pack(*(len(table) for table in tables), len(names))
    return counts + b"".join(part for table in tables for part in table) + bytes(names)


def _pack_library(library: ColdLibrary, tables: tuple[list[bytes], list[bytes], list[bytes]], name: int) -> None:
    libraries, blocks, fragments = tables
    pieces = [(fragment, block) for block in library.blocks for fragment in block.fragments]
    addresses = [fragment.address for fragment, _ in pieces]
    if addresses != sorted(addresses):
        raise ValueError(f"the cold fragments of {library.name} are not in order")
    libraries.append(
        _LIBRARY.pack(
            library.id,
            name,
            len(library.name.encode()),
            len(fragments),
            len(pieces),
            len(blocks),
            len(library.blocks),
        )
    )
    for block in library.blocks:
        blocks.append(
            _BLOCK.pack(
                block.offset,
                block.stored,
                block.bytes,
                len(fragments),
                len(block.fragments),
                block.protection,
                block.filter,
            )
        )
        number = len(blocks) - 1
        fragments.extend(_FRAGMENT.pack(fragment.address, fragment.bytes, number) for fragment in block.fragments)


def read_index(path: Path) -> list[ColdLibrary]:
    """What a side file holds, checked.

    Raises:
        SideFileError: The file is missing, cut short, damaged, or of another format.
    """
    try:
        with path.open("rb") as file:
            return _read_index(path, file)
    except OSError as error:
        raise SideFileError(f"{path} cannot be read: {error.strerror}", _REBUILD) from error
    except (struct.error, zstandard.ZstdError, UnicodeDecodeError, ValueError, OverflowError, MemoryError) as error:
        raise SideFileError(f"{path} is damaged: {error}", _REBUILD) from error


def _read_index(path: Path, file: BinaryIO) -> list[ColdLibrary]:
    head = file.read(HEADER.size)
    if head[:8] != MAGIC:
        raise SideFileError(f"{path} is not a side file of this layer", _REBUILD)
    _, version, _, page, flags, offset, stored, size, total = HEADER.unpack(head)
    if version != VERSION or page != PAGE_BYTES or flags:
        raise SideFileError(f"{path} has format {version}, flags {flags}, pages of {page} bytes", _REBUILD)
    actual = path.stat().st_size
    if actual != total or offset + stored > total:
        raise SideFileError(f"{path} has {actual} bytes instead of {max(total, offset + stored)}", _REBUILD)
    file.seek(offset)
    raw = zstandard.ZstdDecompressor().decompress(file.read(stored))
    if len(raw) != size:
        raise SideFileError(f"{path} has an index of {len(raw)} bytes instead of {size}", _REBUILD)
    return _unpack_index(raw)


def _unpack_index(raw: bytes) -> list[ColdLibrary]:
    counts, start = _COUNTS.unpack_from(raw), _COUNTS.size
    tables: list[list[tuple[Any, ...]]] = []
    for form, count in zip((_LIBRARY, _BLOCK, _FRAGMENT), counts[:3], strict=True):
        tables.append([form.unpack_from(raw, start + i * form.size) for i in range(count)])
        start += form.size * count
    names = raw[start:]
    pieces = [Fragment(address, count) for address, count, _ in tables[2]]
    blocks = [
        Block(tuple(pieces[first : first + count]), protection, kind, stored, where)
        for where, stored, _, first, count, protection, kind in tables[1]
    ]
    return [
        ColdLibrary(names[name : name + length].decode(), id_, tuple(blocks[first : first + count]))
        for id_, name, length, _, _, first, count in tables[0]
    ]
