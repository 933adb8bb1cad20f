"""What the splitter needs to know of a shared library: 64-bit, little-endian, with any number of PT_LOADs.

pyelftools reads the headers, the sections and the dynamic section. Two things are read here, with `struct`, because
pyelftools makes a Python object of every entry: the relocations and the dynamic symbols. For libtorch_cpu (364,000
relocations, 75,000 symbols) `python -m benchmarks.layer.elf` measures 1.2 s of CPU for each table by pyelftools, and
0.03 s here.

What pyelftools has no view for is here too: bytes by virtual address, and the packing of the structures that a
rewritten file needs. Names and layouts are those of elf(5) and of the System V gABI.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

from elftools.common.exceptions import ELFError as PyElfError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_D_TAG, ENUM_E_MACHINE, ENUM_P_TYPE_AARCH64, ENUM_P_TYPE_BASE

from builder.errors import ElfError
from builder.native.page_set import PAGE_BYTES


class SegmentType(IntEnum):
    """The `p_type` values that the splitter handles (elf(5))."""

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
    """The dynamic tags that the splitter handles (elf(5), gABI chapter 5)."""

    NULL = 0
    NEEDED = 1
    PLTRELSZ = 2
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    STRSZ = 10
    INIT = 12
    SONAME = 14
    RPATH = 15
    TEXTREL = 22
    JMPREL = 23
    INIT_ARRAY = 25
    INIT_ARRAYSZ = 27
    RUNPATH = 29
    FLAGS_1 = 0x6FFFFFFB


DF_1_NODELETE = 0x8

# r_type numbers whose addend is a resolver function that the dynamic loader calls while it relocates.
IRELATIVE = {"x86_64": 37, "aarch64": 1032}
MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
"""What `uname -m` says, by pyelftools' name of e_machine."""
STT_GNU_IFUNC = 10
SHF_ALLOC, SHF_TLS = 0x2, 0x400

_SEGMENT = struct.Struct("<IIQQQQQQ")
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
SEGMENT_BYTES = _SEGMENT.size
SECTION_HEADER_BYTES = 64

# pyelftools gives a value that it knows as a name. A rewritten file needs the number.
_SEGMENT_TYPES = {**ENUM_P_TYPE_BASE, **ENUM_P_TYPE_AARCH64}
# What pyelftools raises for a damaged file, beside its own error: it trusts every offset and every name.
_DAMAGE = (PyElfError, struct.error, AssertionError, AttributeError, LookupError, TypeError, ValueError, OverflowError)


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


class ElfSection(NamedTuple):
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
class SharedLibrary:
    """A shared library in memory, read-only.

    Raises:
        ElfError: It is not a 64-bit little-endian x86_64 or aarch64 shared library, or it is damaged.
    """

    path: Path
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a library from disk."""
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise ElfError(f"{path} cannot be read: {error.strerror}", "install the package again") from error

    def __post_init__(self) -> None:
        try:
            self._elf = ELFFile(io.BytesIO(self.data))
            self._require_kind()
            self._require_extents()
        except _DAMAGE as error:
            if self.data[:4] != b"\x7fELF":
                raise ElfError(f"{self.path} is not an ELF file", "leave it out of the split") from error
            raise self._damaged(error) from error

    def _require_kind(self) -> None:
        if self._elf.elfclass != 64 or not self._elf.little_endian:
            raise ElfError(f"{self.path} is not a 64-bit little-endian ELF file", "leave it out of the split")
        kind, machine = self._elf["e_type"], self._elf["e_machine"]
        if kind != "ET_DYN" or machine not in MACHINES:
            raise ElfError(
                f"{self.path} is not an x86_64 or aarch64 shared library ({kind}, {machine})",
                "leave it out of the split",
            )
        self.machine = MACHINES[machine]
        self.machine_number = ENUM_E_MACHINE[machine]

    def _require_extents(self) -> None:
        if self._elf["e_phentsize"] != SEGMENT_BYTES:
            raise self._damaged(f"its program headers have {self._elf['e_phentsize']} bytes")
        for segment in self.segments:
            end = segment.offset + segment.file_bytes
            if end > len(self.data):
                raise ElfError(
                    f"{self.path} is cut short: a segment ends at byte {end} of {len(self.data)}",
                    "install the package again",
                )
        if not self.loads or not self.dynamic:
            raise ElfError(f"{self.path} has no PT_LOAD or no PT_DYNAMIC", "leave it out of the split")

    def _damaged(self, reason: object) -> ElfError:
        return ElfError(f"{self.path} is damaged: {reason}", "install the package again")

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All program headers, in file order."""
        return tuple(
            Segment(
                _number(segment["p_type"], _SEGMENT_TYPES),
                segment["p_flags"],
                segment["p_offset"],
                segment["p_vaddr"],
                segment["p_paddr"],
                segment["p_filesz"],
                segment["p_memsz"],
                segment["p_align"],
            )
            for segment in self._elf.iter_segments()
        )

    @cached_property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOADs, by ascending address."""
        return tuple(sorted((s for s in self.segments if s.type == SegmentType.LOAD), key=lambda s: s.address))

    @cached_property
    def sections(self) -> tuple[ElfSection, ...]:
        """The sections that are in memory at run time, by ascending address; empty where the headers were stripped.

        Raises:
            ElfError: The section headers are damaged.
        """
        try:
            found = [
                ElfSection(s.name, s["sh_addr"], s["sh_size"], s["sh_type"] != "SHT_NOBITS")
                for s in self._elf.iter_sections()
                if s["sh_flags"] & SHF_ALLOC
                and s["sh_size"]
                and not (s["sh_flags"] & SHF_TLS and s["sh_type"] == "SHT_NOBITS")
            ]
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return tuple(sorted(found, key=lambda s: s.address))

    @cached_property
    def dynamic(self) -> tuple[tuple[int, int], ...]:
        """The dynamic section's entries before DT_NULL, `(tag, value)`."""
        for segment in self._elf.iter_segments("PT_DYNAMIC"):
            assert isinstance(segment, DynamicSegment)
            tags = islice(segment.iter_tags(), segment["p_filesz"] // _DYNAMIC.size)
            entries = [(_number(tag.entry.d_tag, ENUM_D_TAG), tag.entry.d_val) for tag in tags]
            return tuple(entry for entry in entries if entry[0] != Tag.NULL)
        return ()

    def tag(self, tag: Tag) -> int | None:
        """The first value of a dynamic tag, or None."""
        return next((value for t, value in self.dynamic if t == tag), None)

    def at(self, address: int, size: int) -> bytes:
        """What the file has for `size` bytes at a virtual address.

        Raises:
            ElfError: No PT_LOAD brings all of them from the file.
        """
        start = self.offset(address, size)
        return self.data[start : start + size]

    def offset(self, address: int, size: int = 1) -> int:
        """Where the file has the `size` bytes at a virtual address. Raises `ElfError` as `at` does."""
        for segment in self.loads:
            if segment.address <= address and address + size <= segment.address + segment.file_bytes:
                return segment.offset + address - segment.address
        raise ElfError(f"{self.path} has no {size} bytes at {address:#x}", "install the package again")

    def string(self, offset: int) -> str:
        """A string of the dynamic string table."""
        table, size = self.tag(Tag.STRTAB), self.tag(Tag.STRSZ)
        if table is None or size is None or offset >= size:
            raise ElfError(f"{self.path} has no dynamic string at {offset}", "install the package again")
        raw = self.at(table + offset, min(size - offset, 4096))
        return raw[: raw.index(0)].decode()

    def relocations(self) -> Iterator[tuple[int, int, int]]:
        """Every dynamic relocation with an addend: `(offset, info, addend)`."""
        for start, size in ((Tag.RELA, Tag.RELASZ), (Tag.JMPREL, Tag.PLTRELSZ)):
            address, length = self.tag(start), self.tag(size)
            if address is not None and length:
                yield from _RELA.iter_unpack(self.at(address, length // _RELA.size * _RELA.size))

    def resolvers(self) -> set[int]:
        """Addresses of IFUNC resolvers: code that the loader runs while it relocates, before any constructor."""
        irelative = IRELATIVE[self.machine]
        called = {addend for _, info, addend in self.relocations() if info & 0xFFFFFFFF == irelative}
        exported = {value for info, value in self.symbols() if info & 15 == STT_GNU_IFUNC}
        return called | exported

    def symbols(self) -> Iterator[tuple[int, int]]:
        """Every symbol of `.dynsym`: `(st_info, st_value)`; none where the section headers were stripped."""
        for section in self.sections:
            if section.name == ".dynsym":
                table = self.at(section.address, section.bytes // _SYMBOL.size * _SYMBOL.size)
                yield from ((info, value) for _, info, _, _, value, _ in _SYMBOL.iter_unpack(table))

    def named_symbols(self, section: str) -> Iterator[tuple[bytes, tuple[int, int], range]]:
        """Every symbol of `.symtab` or `.dynsym`: name, `(st_info, st_other)`, addresses; none if it was stripped."""
        table = self._elf.get_section_by_name(section)
        if table is None:
            return
        names = self._elf.get_section(table["sh_link"]).data()
        for start, info, other, _, value, size in _SYMBOL.iter_unpack(table.data()):
            yield names[start : names.index(b"\0", start)], (info, other), range(value, value + size)


def _number(value: int | str, names: dict[str, int]) -> int:
    return names[value] if isinstance(value, str) else value


def pack_dynamic(entries: list[tuple[int, int]]) -> bytes:
    """A dynamic section with its closing DT_NULL."""
    return b"".join(_DYNAMIC.pack(tag, value) for tag, value in [*entries, (Tag.NULL, 0)])


def pack_note(name: bytes, kind: int, description: bytes) -> bytes:
    """An ELF note (gABI chapter 5): name and description padded to 4 bytes."""
    name += b"\0"
    padded = name + bytes(-len(name) % 4)
    return struct.pack("<III", len(name), len(description), kind) + padded + description + bytes(-len(description) % 4)
