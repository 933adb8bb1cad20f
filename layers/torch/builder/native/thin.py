"""Writes the thin version of a library: the same virtual addresses, fewer bytes.

No address that code or data knows changes, so no relocation is touched. What changes is where in the file a page lies,
which pages the file has at all, and the tables that the loader reads: program headers, dynamic section, dynamic strings.
The new tables lie in two segments behind all others. Section headers are dropped; nothing needs them at run time.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ElfError
from builder.native.elf import (
    DF_1_NODELETE,
    HEADER_BYTES,
    SEGMENT_BYTES,
    Library,
    Protection,
    Segment,
    SegmentType,
    Tag,
    pack_dynamic,
    pack_note,
    page_ceil,
)
from builder.native.layout import Layout, State
from builder.native.page_set import PAGE_BYTES
from torch_layer import NOTE_NAME

NOTE_SPLIT_LIBRARY = 1


@dataclass(frozen=True)
class Additions:
    """What a split library gets: how it names the pager, and how the pager knows it."""

    id: bytes
    companion: str  # file name for DT_NEEDED
    search_path: str  # for DT_RUNPATH, such as $ORIGIN/../../torch_layer


class _Image:
    """The new file while it grows, and its PT_LOADs."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.loads: list[Segment] = []

    def add(self, address: int, content: bytes, flags: int, memory_bytes: int | None = None) -> None:
        self.data += bytes(-len(self.data) % PAGE_BYTES + address % PAGE_BYTES)
        size = len(content)
        memory = size if memory_bytes is None else memory_bytes
        self.loads.append(Segment(SegmentType.LOAD, flags, len(self.data), address, address, size, memory, PAGE_BYTES))
        self.data += content

    def leave_out(self, address: int, size: int) -> None:
        """Addresses without bytes and without access rights; a neighbour of the same kind grows instead."""
        last = self.loads[-1]
        if last.flags == 0 and last.end == address and last.file_bytes == 0:
            self.loads[-1] = last._replace(memory_bytes=last.memory_bytes + size)
        else:
            self.loads.append(Segment(SegmentType.LOAD, 0, 0, address, address, 0, size, PAGE_BYTES))

    def offset(self, address: int) -> int:
        """Where an address lies in the file; 0 if it does not."""
        for load in self.loads:
            if load.address <= address < load.address + load.file_bytes:
                return load.offset + address - load.address
        return 0


def rewrite(library: Library, layout: Layout, additions: Additions, *, in_place: bool = False) -> tuple[bytes, int]:
    """The thin library's bytes, and how many program headers it has.

    Args:
        library: The library as installed.
        layout: What becomes of each page.
        additions: What the loader and the pager need to find each other.
        in_place: For a recording tree: cold pages stay in the file, but without access rights.
    """
    if library.loads[0].offset or library.loads[0].address:
        raise ElfError(f"{library.path} does not start with its own ELF header", "leave it out of the split")
    image = _Image()
    for segment, runs in layout.runs:
        for run in runs:
            _add_run(image, library, segment, run.start, run.end, run.state, in_place)
    header_count = _add_tables(image, library, additions)
    struct.pack_into("<Q", image.data, 40, 0)  # e_shoff: no section headers
    struct.pack_into("<HHHHH", image.data, 54, SEGMENT_BYTES, header_count, 64, 0, 0)
    return bytes(image.data), header_count


def _add_run(image: _Image, library: Library, segment: Segment, start: int, end: int, state: State, keep: bool) -> None:
    position = segment.offset + start - segment.address
    filled = min(end, segment.address + segment.file_bytes)
    content = library.data[position : position + max(0, filled - start)]
    if state is State.HOT:
        image.add(start, content, segment.flags, end - start)
    elif state is State.COLD and keep:
        image.add(start, content, 0)
    else:
        image.leave_out(start, end - start)


def _add_tables(image: _Image, library: Library, additions: Additions) -> int:
    strings, dynamic = _dynamic(library, additions)
    note = pack_note(NOTE_NAME, NOTE_SPLIT_LIBRARY, additions.id)
    kept = [s for s in library.segments if s.type not in (SegmentType.LOAD, SegmentType.PHDR, SegmentType.DYNAMIC)]
    count = 1 + len(image.loads) + 2 + len(kept) + 2  # PT_PHDR, PT_LOADs and two new ones, the others, note and dynamic
    start = page_ceil(library.loads[-1].end)
    note_at = start + count * SEGMENT_BYTES
    strings_at = note_at + len(note)
    dynamic_at = page_ceil(strings_at + len(strings))
    entries = [(tag, strings_at if tag == Tag.STRTAB else value) for tag, value in dynamic]
    image.add(start, bytes(count * SEGMENT_BYTES) + note + strings, Protection.READ)
    # Writable: glibc turns the section's addresses into pointers where they stand.
    image.add(dynamic_at, pack_dynamic(entries), Protection.READ | Protection.WRITE)

    def describe(kind: int, flags: int, address: int, size: int, alignment: int) -> Segment:
        return Segment(kind, flags, image.offset(address), address, address, size, size, alignment)

    headers = [
        describe(SegmentType.PHDR, Protection.READ, start, count * SEGMENT_BYTES, 8),
        *image.loads,
        *(s._replace(offset=image.offset(s.address) if s.memory_bytes else 0) for s in kept),
        describe(SegmentType.NOTE, Protection.READ, note_at, len(note), 4),
        describe(SegmentType.DYNAMIC, Protection.READ | Protection.WRITE, dynamic_at, len(pack_dynamic(entries)), 8),
    ]
    table = b"".join(header.pack() for header in headers)
    offset = image.offset(start)
    image.data[offset : offset + len(table)] = table
    struct.pack_into("<Q", image.data, 32, offset)  # e_phoff
    return len(headers)


def _dynamic(library: Library, additions: Additions) -> tuple[bytes, list[tuple[int, int]]]:
    """The new string table, and the dynamic entries with the table's address still that of the old one."""
    table, size = library.tag(Tag.STRTAB), library.tag(Tag.STRSZ)
    if table is None or size is None:
        raise ElfError(f"{library.path} has no dynamic string table", "leave it out of the split")
    strings = bytearray(library.at(table, size))

    def add(text: str) -> int:
        offset = len(strings)
        strings.extend(text.encode() + b"\0")
        return offset

    entries: list[tuple[int, int]] = [(Tag.NEEDED, add(additions.companion))]
    has_runpath, has_flags = False, library.tag(Tag.FLAGS_1) is not None
    # With DT_RUNPATH present the loader ignores DT_RPATH: the one in force is the one to add to.
    path_tag = Tag.RUNPATH if library.tag(Tag.RUNPATH) is not None or library.tag(Tag.RPATH) is None else Tag.RPATH
    for tag, value in library.dynamic:
        if tag == path_tag:
            has_runpath = True
            entries.append((tag, add(f"{library.string(value)}:{additions.search_path}")))
        elif tag == Tag.FLAGS_1:
            # Never unloaded: the pager would go on bringing pages to addresses that belong to somebody else by then.
            entries.append((tag, value | DF_1_NODELETE))
        else:
            entries.append((tag, value))
    if not has_runpath:
        entries.append((path_tag, add(additions.search_path)))
    if not has_flags:
        entries.append((Tag.FLAGS_1, DF_1_NODELETE))
    entries = [(tag, len(strings) if tag == Tag.STRSZ else value) for tag, value in entries]
    return bytes(strings), entries


def search_path(library: Path, folder: Path) -> str:
    """How a library names a folder relative to its own place, for DT_RUNPATH."""
    return "/".join(["$ORIGIN", Path(os.path.relpath(folder, library.parent)).as_posix()])


assert HEADER_BYTES == 64
