"""Archives as torch's writer lays them out, with a place to lie at each step."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

Records = dict[str, bytes]
# torch's writer adds these itself.
WRITTEN = {"version", "byteorder", ".data/version", ".data/serialization_id"}


def records_of(path: Path) -> Records:
    """Every record of an archive."""
    reader = torch._C.PyTorchFileReader(str(path))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


@dataclass
class Entry:
    """A record as it is written; what is not None stands in the place of the truth.

    Attributes:
        name: with the folder.
        content: the bytes.
        deflate: whether they are packed.
        local: another name in the record's own header.
        local_method: another method there.
        crc: another checksum.
        size: another unpacked size in the directory.
        described: another unpacked size behind the content.
        before: bytes between the record before and this one.
        offset: another place in the directory.
        filler: what the padding is made of.
        packed: other packed bytes.
    """

    name: str
    content: bytes
    deflate: bool = False
    local: str | None = None
    local_method: int | None = None
    crc: int | None = None
    size: int | None = None
    described: int | None = None
    before: bytes = b""
    offset: int | None = None
    filler: bytes = b"Z"
    packed: bytes | None = None


@dataclass
class Layout:
    """An archive as it is written.

    Attributes:
        entries: the records, in order.
        comment: behind the end.
        count: another number of records at the end.
        gap: bytes between the last record and the directory.
        behind: bytes behind everything.
    """

    entries: list[Entry] = field(default_factory=list)
    comment: bytes = b""
    count: int | None = None
    gap: bytes = b""
    behind: bytes = b""

    def entry(self, end: str) -> Entry:
        """The record whose name ends so."""
        return next(each for each in self.entries if each.name.endswith(end))

    def pack(self) -> bytes:
        """The bytes."""
        out, directory = bytearray(), bytearray()
        for each in self.entries:
            out += each.before
            _pack_entry(each, out, directory)
        out += self.gap
        start, size = len(out), len(directory)
        count = len(self.entries) if self.count is None else self.count
        out += directory
        out += struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, len(self.entries), count, size, start)
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
        out += struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(self.entries), count, size, start, len(self.comment))
        return bytes(out + self.comment + self.behind)


def _pack_entry(each: Entry, out: bytearray, directory: bytearray) -> None:
    offset = len(out)
    packed = each.packed
    if packed is None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(each.content) + packer.flush() if each.deflate else each.content
    method, needed = (8, 20) if each.deflate else (0, 0)
    crc = zlib.crc32(each.content) if each.crc is None else each.crc
    size = len(each.content) if each.size is None else each.size
    described = size if each.described is None else each.described
    local, name = (each.name if each.local is None else each.local).encode(), each.name.encode()
    flags = 0x0808 if size else 0x0800
    padding = -(offset + 30 + len(local) + 4) % 64
    out += struct.pack(
        "<4sHHHHHIIIHH",
        *(b"PK\x03\x04", needed, flags, method if each.local_method is None else each.local_method),
        *(0, 0, 0, 0, 0, len(local), padding + 4),
    )
    out += local + b"FB" + struct.pack("<H", padding) + each.filler * padding + packed
    if size:
        out += struct.pack("<4sIII", b"PK\x07\x08", crc, len(packed), described)
    directory += struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        *(b"PK\x01\x02", 0, needed, flags, method, 0, 0, crc, len(packed), size, len(name), 0, 0, 0, 0, 0),
        offset if each.offset is None else each.offset,
    )
    directory += name


def layout_of(records: Records, folder: str = "model") -> Layout:
    """These records, as torch would write them."""
    return Layout([Entry(f"{folder}/{name}", content, deflate=_is_packed(name)) for name, content in records.items()])


def _is_packed(name: str) -> bool:
    return name.startswith("code/")


def pack(records: Records) -> bytes:
    """An archive with these records."""
    return layout_of(records).pack()


def by_torch(path: Path, records: Iterable[tuple[str, bytes]]) -> Path:
    """The same, written by torch itself."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records:
        if name not in WRITTEN:
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return path
