"""ELF shared libraries, as far as the splitter needs them: 64-bit, little-endian, any number of PT_LOADs.

Reading is pyelftools' work; this module adds what it has no view for (bytes by virtual address, relocation targets in
bulk) and packs the structures that a rewritten file needs. Names and layouts are those of elf(5) and the gABI.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from elftools.common.exceptions import ELFError as PyElfError
from elftools.elf.elffile import ELFFile

from builder.errors import ElfError
from builder.native.page_set import PAGE_BYTES


class SegmentType(IntEnum):
    """The `p_type` values that are met here (elf(5))."""

    LOAD = 1
    DYNAMIC = 2
    NOTE = 4
    PHDR = 6


class Protection(IntFlag):
    """The `p_flags` bits."""

    EXECUTE = 1
    WRITE = 2
    READ = 4


class Tag(IntEnum):
    """The dynamic tags that are met here (elf(5), gABI chapter 5)."""

    NULL = 0
    NEEDED = 1
    PLTRELSZ = 2
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    STRSZ = 10
    SONAME = 14
    RPATH = 15
    TEXTREL = 22
    JMPREL = 23
    RUNPATH = 29
    FLAGS_1 = 0x6FFFFFFB


DF_1_NODELETE = 0x8

# r_type numbers whose addend is a resolver function that the dynamic loader calls while it relocates.
IRELATIVE = {"x86_64": 37, "aarch64": 1032}
MACHINES = {62: "x86_64", 183: "aarch64"}
STT_GNU_IFUNC = 10

_SEGMENT = struct.Struct("<IIQQQQQQ")
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
HEADER_BYTES = 64
SEGMENT_BYTES = _SEGMENT.size


class Segment(NamedTuple):
    """One program header; offsets, addresses and sizes in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_bytes: int
    memory_bytes: int
    alignment: int

    @property
    def end(self) -> int:
        """The virtual address after the last byte of the segment in memory."""
        return self.address + self.memory_bytes

    def pack(self) -> bytes:
        """The header's 56 bytes in the file."""
        return _SEGMENT.pack(*self)


class Section(NamedTuple):
    """One allocated section (SHF_ALLOC); address and size in bytes."""

    name: str
    address: int
    bytes: int
    in_file: bool

    @property
    def end(self) -> int:
        """The virtual address after the section's last byte."""
        return self.address + self.bytes


def page_floor(address: int) -> int:
    """The start of the page that holds this address."""
    return address // PAGE_BYTES * PAGE_BYTES


def page_ceil(address: int) -> int:
    """The first page boundary at or above this address."""
    return -(-address // PAGE_BYTES) * PAGE_BYTES


@dataclass
class Library:
    """A shared library in memory, read-only.

    Raises:
        ElfError: Not a 64-bit little-endian x86_64 or aarch64 shared library, or damaged.
    """

    path: Path
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a library from disk."""
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise ElfError(f"{path} cannot be read: {error.strerror}") from error

    def __post_init__(self) -> None:
        magic, order = self.data[:6], self.data[5:6]
        if len(self.data) < HEADER_BYTES or magic[:5] != b"\x7fELF\x02" or order != b"\x01":
            raise ElfError(f"{self.path} is not a 64-bit little-endian ELF file", "leave it out of the split")
        kind, machine = struct.unpack_from("<HH", self.data, 16)
        if kind != 3 or machine not in MACHINES:
            raise ElfError(
                f"{self.path} is not an x86_64 or aarch64 shared library (e_type {kind}, e_machine {machine})",
                "leave it out of the split",
            )
        self.machine_number: int = machine
        self.machine = MACHINES[machine]
        try:
            self._check_extents()
        except (struct.error, IndexError, PyElfError) as error:
            raise ElfError(f"{self.path} is damaged: {error}", "install the package again") from error

    def _check_extents(self) -> None:
        for segment in self.segments:
            if segment.offset + segment.file_bytes > len(self.data):
                raise ElfError(
                    f"{self.path} is cut short: a segment ends at byte {segment.offset + segment.file_bytes} of "
                    f"{len(self.data)}",
                    "install the package again",
                )
        if not self.loads or not self.dynamic:
            raise ElfError(f"{self.path} has no PT_LOAD or no PT_DYNAMIC", "leave it out of the split")

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All program headers, in file order."""
        (offset,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        if size != SEGMENT_BYTES:
            raise ElfError(f"{self.path} is damaged: program headers of {size} bytes", "install the package again")
        return tuple(Segment(*_SEGMENT.unpack_from(self.data, offset + size * i)) for i in range(count))

    @cached_property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOADs, by ascending address."""
        return tuple(sorted((s for s in self.segments if s.type == SegmentType.LOAD), key=lambda s: s.address))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections that are in memory at run time, by ascending address; empty where the headers were stripped."""
        with _Reader(self.data) as elf:
            found = [
                Section(s.name, s["sh_addr"], s["sh_size"], s["sh_type"] != "SHT_NOBITS")
                for s in elf.iter_sections()
                if s["sh_flags"] & 2 and s["sh_size"] and not (s["sh_flags"] & 0x400 and s["sh_type"] == "SHT_NOBITS")
            ]
        return tuple(sorted(found, key=lambda s: s.address))

    @cached_property
    def dynamic(self) -> tuple[tuple[int, int], ...]:
        """The dynamic section's entries up to DT_NULL, `(tag, value)`."""
        for segment in self.segments:
            if segment.type == SegmentType.DYNAMIC:
                raw = self.data[segment.offset : segment.offset + segment.file_bytes // 16 * 16]
                entries = []
                for tag, value in _DYNAMIC.iter_unpack(raw):
                    if tag == Tag.NULL:
                        break
                    entries.append((tag, value))
                return tuple(entries)
        return ()

    def tag(self, tag: Tag) -> int | None:
        """The first value of a dynamic tag, or None."""
        return next((value for t, value in self.dynamic if t == tag), None)

    def at(self, address: int, size: int) -> bytes:
        """What the file has for `size` bytes at a virtual address.

        Raises:
            ElfError: No PT_LOAD brings all of them from the file.
        """
        for segment in self.loads:
            if segment.address <= address and address + size <= segment.address + segment.file_bytes:
                start = segment.offset + address - segment.address
                return self.data[start : start + size]
        raise ElfError(f"{self.path} has no {size} bytes at {address:#x}", "install the package again")

    def string(self, offset: int) -> str:
        """A string of the dynamic string table."""
        table, size = self.tag(Tag.STRTAB), self.tag(Tag.STRSZ)
        if table is None or size is None or offset >= size:
            raise ElfError(f"{self.path} has no dynamic string at {offset}", "install the package again")
        raw = self.at(table + offset, min(size - offset, 4096))
        return raw[: raw.index(0)].decode()

    def needed(self) -> list[str]:
        """The DT_NEEDED names, in order."""
        return [self.string(value) for tag, value in self.dynamic if tag == Tag.NEEDED]

    def relocations(self) -> Iterator[tuple[int, int, int]]:
        """Every dynamic relocation with addend: `(offset, info, addend)`."""
        for start, size in ((Tag.RELA, Tag.RELASZ), (Tag.JMPREL, Tag.PLTRELSZ)):
            address, length = self.tag(start), self.tag(size)
            if address is not None and length:
                yield from _RELA.iter_unpack(self.at(address, length // _RELA.size * _RELA.size))

    def resolvers(self) -> set[int]:
        """Addresses of IFUNC resolvers: code that the loader runs while it relocates, before any constructor."""
        irelative = IRELATIVE[self.machine]
        found = {addend for _, info, addend in self.relocations() if info & 0xFFFFFFFF == irelative}
        for name in (".dynsym",):
            found |= {
                value
                for _, info, _, _, value, _ in _SYMBOL.iter_unpack(self._section_bytes(name, _SYMBOL.size))
                if info & 15 == STT_GNU_IFUNC
            }
        return found

    def _section_bytes(self, name: str, unit: int) -> bytes:
        for section in self.sections:
            if section.name == name:
                return self.at(section.address, section.bytes // unit * unit)
        return b""


def pack_dynamic(entries: list[tuple[int, int]]) -> bytes:
    """A dynamic section with its closing DT_NULL."""
    return b"".join(_DYNAMIC.pack(tag, value) for tag, value in [*entries, (Tag.NULL, 0)])


def pack_note(name: bytes, kind: int, description: bytes) -> bytes:
    """An ELF note (gABI chapter 5): name and description padded to 4 bytes."""
    name += b"\0"
    padded = name + bytes(-len(name) % 4)
    return struct.pack("<III", len(name), len(description), kind) + padded + description + bytes(-len(description) % 4)


class _Reader:
    """pyelftools over bytes that are in memory already."""

    def __init__(self, data: bytes) -> None:
        import io

        self._stream = io.BytesIO(data)

    def __enter__(self) -> ELFFile:
        return ELFFile(self._stream)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
