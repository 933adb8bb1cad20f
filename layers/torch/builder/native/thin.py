"""Writes the thin version of a library: the same virtual addresses, fewer bytes.

No address that code or data refers to changes, so no relocation is touched. Three things change: where in the file a
page is, which pages the file has, and the tables that the loader reads (program headers, dynamic section, dynamic
strings). The new tables are in two segments after all others. Section headers are dropped, since nothing needs them at
run time.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ElfError
from builder.native.elf import (
    DF_1_NODELETE,
    SECTION_HEADER_BYTES,
    SEGMENT_BYTES,
    Protection,
    Segment,
    SegmentType,
    SharedLibrary,
    Tag,
    pack_dynamic,
    pack_note,
    page_ceil,
)
from builder.native.layout import Layout, PageState
from builder.native.page_set import PAGE_BYTES
from torch_layer import NOTE_NAME

NOTE_SPLIT_LIBRARY = 1


@dataclass(frozen=True)
class Additions:
    """What is added to a split library, so that the loader finds the pager and the pager knows the library."""

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
        """Add addresses without bytes and without access rights; if such a segment ends here, it grows."""
        last = self.loads[-1]
        if last.flags == 0 and last.end == address and last.file_bytes == 0:
            self.loads[-1] = last._replace(memory_bytes=last.memory_bytes + size)
        else:
            self.loads.append(Segment(SegmentType.LOAD, 0, 0, address, address, 0, size, PAGE_BYTES))

    def offset(self, address: int) -> int:
        """The offset of an address in the file; 0 if the file does not have it."""
        for load in self.loads:
            if load.address <= address < load.address + load.file_bytes:
                return load.offset + address - load.address
        return 0


def rewrite(
    library: SharedLibrary, layout: Layout, additions: Additions, *, in_place: bool = False
) -> tuple[bytes, int]:
    """The thin library's bytes, and how many program headers it has.

    Args:
        library: The library as installed.
        layout: What becomes of each page.
        additions: What the loader and the pager need to find each other.
        in_place: Keep cold pages in the file, without access rights (for a recording tree).
    """
    # Its address may be any: arm64 wheels that patchelf rewrote begin at 0x400000. The loader maps the header there.
    if library.loads[0].offset:
        raise ElfError(f"{library.path} does not start with its own ELF header", "leave it out of the split")
    image = _Image()
    for segment, runs in layout.runs:
        for run in runs:
            _add_run(image, library, segment, run.start, run.end, run.state, in_place)
    header_count = _add_tables(image, library, additions)
    struct.pack_into("<Q", image.data, 40, 0)  # e_shoff: no section headers
    struct.pack_into("<HHHHH", image.data, 54, SEGMENT_BYTES, header_count, SECTION_HEADER_BYTES, 0, 0)
    return bytes(image.data), header_count


def _add_run(
    image: _Image, library: SharedLibrary, segment: Segment, start: int, end: int, state: PageState, keep: bool
) -> None:
    position = segment.offset + start - segment.address
    filled = min(end, segment.address + segment.file_bytes)
    content = library.data[position : position + max(0, filled - start)]
    if state is PageState.HOT:
        image.add(start, content, segment.flags, end - start)
    elif state is PageState.COLD and keep:
        image.add(start, content, 0)
    else:
        image.leave_out(start, end - start)


def _add_tables(image: _Image, library: SharedLibrary, additions: Additions) -> int:
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
    # Writable: glibc replaces the section's addresses by pointers.
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


def _dynamic(library: SharedLibrary, additions: Additions) -> tuple[bytes, list[tuple[int, int]]]:
    """The new string table, and the dynamic entries. The address of the table among them is still the old one."""
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
    # If there is a DT_RUNPATH, the loader ignores DT_RPATH. So the folder is added to the one that the loader reads.
    path_tag = Tag.RUNPATH if library.tag(Tag.RUNPATH) is not None or library.tag(Tag.RPATH) is None else Tag.RPATH
    for tag, value in library.dynamic:
        if tag == path_tag:
            has_runpath = True
            entries.append((tag, add(f"{library.string(value)}:{additions.search_path}")))
        elif tag == Tag.FLAGS_1:
            # Never unloaded: the pager would go on to bring pages to addresses that another library may have by then.
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
    """A folder as DT_RUNPATH names it: relative to the place of the library."""
    return "/".join(["$ORIGIN", Path(os.path.relpath(folder, library.parent)).as_posix()])
