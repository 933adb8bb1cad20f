"""A strict reader of the zip archives that torch writes: it takes exactly what torch's writer makes, byte by byte.

A zip file can be read in more than one way: names may occur twice or differ in case, the directory may disagree with
the headers of the records, and bytes may lie before, between and behind them. torch's own reader ignores case and
believes the directory. So this reader accounts for every byte of the file, and refuses what torch's writer does not
write. What is checked is then what torch sees.

The layout, from `PyTorchStreamWriter` of torch 2.13 (caffe2/serialize/inline_container.cc, miniz):

    for each record: header (30 bytes), name, padding "FB" + "Z...", content at a multiple of 64, descriptor (16 bytes)
    directory: one entry of 46 bytes and the name for each record, in the same order
    end: zip64 end (56 bytes), its locator (20), end (22); no comment, nothing behind it
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.releases.programs.refusal import ProgramError

MOST_RECORDS: Final = 20_000
# A record has 32 bits for its size and place; torch would go over to another layout behind that.
LARGEST_ARCHIVE: Final = 2**32 - 1
# What is read as text, or inflated. The JSON text of a large transformer is some 10 MB.
LARGEST_TEXT: Final = 32 * 1024 * 1024
LARGEST_INFLATED: Final = 64 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,120}(/[A-Za-z0-9_.\-]{1,120}){1,24}")
_STORED, _DEFLATED = 0, 8
_UTF8, _DESCRIBED = 0x0800, 0x0808  # the name is UTF-8; and a descriptor follows the content, unless that is empty

_HEADER = struct.Struct("<4sHHHHHIIIHH")
_DESCRIPTOR = struct.Struct("<4sIII")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")
_ALIGNMENT = 64


@dataclass(frozen=True)
class ArchiveRecord:
    """A record's place in the file: `stored` bytes at `start`, which unpack to `size` bytes with the checksum `crc`."""

    start: int
    stored: int
    size: int
    crc: int


class Archive:
    """The records of an archive of torch, by their name without the archive's folder.

    Raises:
        ProgramError: the bytes are not laid out as torch's writer lays them out.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        if not _END.size + _LOCATOR.size + _END64.size < len(content) <= LARGEST_ARCHIVE:
            raise ProgramError(f"has {len(content)} bytes, and an archive of torch has from 99 to {LARGEST_ARCHIVE}")
        self._content = memoryview(content)
        self.records: dict[str, ArchiveRecord] = {}
        start, size, count = self._end()
        self._read_directory(start, size, count)
        inflated = sum(record.size for record in self.records.values() if record.size != record.stored)
        if inflated > LARGEST_INFLATED:
            raise ProgramError(f"would unpack to {inflated} bytes of text: a zip bomb")

    @classmethod
    def of(cls, path: Path) -> "Archive":
        """The archive in a file, mapped into memory.

        Raises:
            ProgramError: see the class.
        """
        import mmap

        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ProgramError("is empty")
            return cls(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def __contains__(self, name: str) -> bool:
        return name in self.records

    def read(self, name: str, most: int = LARGEST_TEXT) -> bytes:
        """A record's content, unpacked and compared with its checksum.

        Raises:
            ProgramError: it is missing, larger than `most` bytes, or damaged.
        """
        record = self.records.get(name)
        if record is None:
            raise ProgramError(f"has no {name}")
        if record.size > most:
            raise ProgramError(f"has {record.size} bytes in {name}, and at most {most} are read")
        content = bytes(self._content[record.start : record.start + record.stored])
        if record.stored != record.size:
            content = _inflate(content, record.size, name)
        if zlib.crc32(content) != record.crc:
            raise ProgramError(f"is damaged: {name} has another checksum than recorded")
        return content

    def _end(self) -> tuple[int, int, int]:
        """Where the directory begins, its bytes, and its number of entries."""
        end = len(self._content) - _END.size
        locator = end - _LOCATOR.size
        end64 = locator - _END64.size
        signature, *facts, start64 = _END64.unpack_from(self._content, end64)
        length, made, needed, disk, first, here, count, size = facts
        expected = (b"PK\x06\x06", _END64.size - 12, 0, 0, count, size, end64 - size)
        if (signature, length, disk, first, here, size, start64) != expected or (made, needed) != (0x031E, 45):
            raise ProgramError("does not end as an archive of torch ends")
        if _LOCATOR.unpack_from(self._content, locator) != (b"PK\x06\x07", 0, end64, 1):
            raise ProgramError("has two ends that disagree")
        low = (min(count, 0xFFFF), min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(start64, 0xFFFFFFFF))
        if _END.unpack_from(self._content, end) != (b"PK\x05\x06", 0, 0, *low, 0):
            raise ProgramError("has two ends that disagree, or a comment")
        if not 0 < count <= MOST_RECORDS or size > end64:
            raise ProgramError(f"has {count} records, and an archive has from 1 to {MOST_RECORDS}")
        return start64, size, count

    def _read_directory(self, start: int, size: int, count: int) -> None:
        at, end, place = start, start + size, 0
        folders: set[str] = set()
        lower: set[str] = set()
        for _ in range(count):
            if at + _ENTRY.size > end:
                raise ProgramError("has a directory that is cut off")
            fields = _ENTRY.unpack_from(self._content, at)
            signature, made, needed, flags, method, clock, date, crc, stored, unpacked, length, *rest, offset = fields
            name = self._name(at + _ENTRY.size, length, end)
            at += _ENTRY.size + length
            if signature != b"PK\x01\x02" or made or flags != _flags(unpacked) or clock or date or any(rest):
                raise ProgramError(f"has a directory entry for {name} that torch does not write")
            if (method, needed) not in ((_STORED, 0), (_DEFLATED, 20)) or (method == _STORED) != (stored == unpacked):
                raise ProgramError(f"packs {name} in a way that torch does not")
            if offset != place:
                raise ProgramError(f"has bytes before {name} that belong to no record, or records that overlap")
            folder, _, record = name.partition("/")
            folders.add(folder)
            if record.lower() in lower:
                raise ProgramError(f"has {record} twice, or in two spellings")
            lower.add(record.lower())
            found, place = self._record(name, place, (needed, method, crc, stored, unpacked), start)
            self.records[record] = found
        if at != end or place != start:
            raise ProgramError("has bytes that belong to no record")
        if len(folders) != 1:
            raise ProgramError("has records in more than one folder")

    def _name(self, at: int, length: int, end: int) -> str:
        raw = bytes(self._content[at : min(at + length, end)])
        try:
            name = raw.decode("ascii")
        except UnicodeDecodeError:
            name = ""
        if len(raw) != length or not _NAME.fullmatch(name) or any(part.strip(".") == "" for part in name.split("/")):
            raise ProgramError(f"has a record named {raw[:80]!r}, and torch writes no such name")
        return name

    def _record(self, name: str, at: int, facts: tuple[int, int, int, int, int], end: int) -> tuple[ArchiveRecord, int]:
        """The record whose header is at `at`, and where the next header is to be."""
        needed, method, crc, stored, unpacked = facts
        if at + _HEADER.size > end:
            raise ProgramError(f"has no room for {name}")
        *fields, length, padding = _HEADER.unpack_from(self._content, at)
        raw = bytes(self._content[at + _HEADER.size : at + _HEADER.size + length])
        if fields != [b"PK\x03\x04", needed, _flags(unpacked), method, 0, 0, 0, 0, 0] or raw != name.encode():
            raise ProgramError(f"has a header of {name} that differs from the directory's entry")
        start = at + _HEADER.size + length + padding
        extra = bytes(self._content[start - padding : start])
        filled = b"FB" + struct.pack("<H", max(0, padding - 4)) + b"Z" * (padding - 4)
        if extra != filled or start % _ALIGNMENT or padding >= 4 + _ALIGNMENT:
            raise ProgramError(f"has other bytes than padding before {name}")
        after = start + stored
        if unpacked == 0:
            return ArchiveRecord(start, 0, 0, crc), after
        if after + _DESCRIPTOR.size > end:
            raise ProgramError(f"is cut off in {name}")
        if _DESCRIPTOR.unpack_from(self._content, after) != (b"PK\x07\x08", crc, stored, unpacked):
            raise ProgramError(f"has a descriptor of {name} that differs from the directory's entry")
        return ArchiveRecord(start, stored, unpacked, crc), after + _DESCRIPTOR.size


def _flags(size: int) -> int:
    return _DESCRIBED if size else _UTF8


def _inflate(content: bytes, size: int, name: str) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, size)
        # The end of the stream may need one more step that gives no bytes.
        if not unpacker.eof and unpacker.decompress(unpacker.unconsumed_tail, 1):
            raise ProgramError(f"has more bytes in {name} than the directory says")
    except zlib.error as error:
        raise ProgramError(f"is damaged: {name} does not unpack ({error})") from error
    if not unpacker.eof or unpacker.unused_data or len(unpacked) != size:
        raise ProgramError(f"is damaged: {name} does not unpack to what the directory says")
    return unpacked
