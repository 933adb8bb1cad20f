"""Which pages of a library stay in its file, which go cold, and which are dropped: rules, and how they are applied."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from builder.native.elf import Protection, Segment, SegmentType, SharedLibrary, Tag, page_ceil, page_floor
from builder.native.number_tables import table_runs
from builder.native.page_set import PAGE_BYTES


class SectionRule(NamedTuple):
    """A section whose pages may go cold, and why the kernel never meets them.

    A cold page comes back when code in user mode touches it. If the kernel touches it first, because a system call was
    given a pointer into it, the call fails with EFAULT instead. So only sections that are never given to a system call
    may go cold.
    """

    name: str
    is_code: bool
    reason: str


COLD_RULES = (
    SectionRule(".text", True, "machine code: executed, never an argument of a system call"),
    SectionRule(".plt", True, "call stubs: executed only"),
    SectionRule(".plt.got", True, "call stubs: executed only"),
    SectionRule(".plt.sec", True, "call stubs: executed only"),
    SectionRule(".gcc_except_table", False, "exception tables: read only by the C++ runtime while it unwinds"),
    SectionRule(".eh_frame", False, "unwind tables: read only by the unwinder"),
    SectionRule(".eh_frame_hdr", False, "index of the unwind tables: read only by the unwinder"),
)


class PageState(Enum):
    """What becomes of a run of pages."""

    HOT = "stays in the file"
    COLD = "is compressed into the side file"
    DEAD = "is dropped: the thin file has it in another place, or nothing refers to it"


class PageRun(NamedTuple):
    """A half-open range of addresses within one PT_LOAD, in one state."""

    start: int
    end: int
    state: PageState
    is_code: bool = False


@dataclass(frozen=True)
class Layout:
    """Every PT_LOAD of a library, cut into runs, by ascending address."""

    runs: tuple[tuple[Segment, tuple[PageRun, ...]], ...]

    def cold(self) -> Iterator[tuple[Segment, PageRun]]:
        """The cold runs, with the PT_LOAD that they belong to."""
        for segment, runs in self.runs:
            for run in runs:
                if run.state is PageState.COLD:
                    yield segment, run


def plan_layout(library: SharedLibrary, hot: frozenset[int], min_cold_pages: int) -> Layout:
    """Decide for every page of a library.

    Args:
        library: The library as installed (with section headers: without them nothing goes cold).
        hot: Page numbers that must stay.
        min_cold_pages: Shorter cold runs stay hot. Every run costs a program header, and before glibc 2.35 exception
            handling walks all program headers.
    """
    keep = set(hot) | set(_relocated_pages(library)) | _resolver_pages(library)
    intervals = [*_cold_intervals(library), *((start, end, False) for start, end in table_runs(library))]
    layout: list[tuple[Segment, tuple[PageRun, ...]]] = []
    for segment in library.loads:
        if _is_dead(library, segment):
            layout.append((segment, (PageRun(segment.address, segment.end, PageState.DEAD),)))
            continue
        removed: list[PageRun] = []
        if segment.file_bytes == segment.memory_bytes:
            removed += _overwritten(library, segment, min_cold_pages)
            if not segment.flags & Protection.WRITE:
                removed += [*_cold_runs(segment, intervals, keep, min_cold_pages), *_old_strings(library, segment)]
        layout.append((segment, tuple(_runs(segment, removed))))
    return Layout(tuple(layout))


def _runs(segment: Segment, removed: list[PageRun]) -> Iterator[PageRun]:
    """What is removed, and between that what stays."""
    position = segment.address
    for run in sorted(removed):
        if run.start > position:
            yield PageRun(position, run.start, PageState.HOT)
        yield run
        position = run.end
    if segment.end > position:
        yield PageRun(position, segment.end, PageState.HOT)


def _cold_runs(
    segment: Segment, intervals: list[tuple[int, int, bool]], keep: set[int], min_cold_pages: int
) -> Iterator[PageRun]:
    for start, end, is_code in intervals:
        first, last = page_ceil(max(start, segment.address)) // PAGE_BYTES, min(end, segment.end) // PAGE_BYTES
        begin = first
        for page in [*sorted(number for number in keep if first <= number < last), last]:
            if page - begin >= min_cold_pages:
                yield PageRun(begin * PAGE_BYTES, page * PAGE_BYTES, PageState.COLD, is_code)
            begin = page + 1


def _cold_intervals(library: SharedLibrary) -> Iterator[tuple[int, int, bool]]:
    """Maximal ranges of neighbouring sections that may go cold, `(start, end, is_code)`.

    Two sections are neighbours if there is only padding between them. Then the page that both share may go cold, too.
    """
    rules = {rule.name: rule for rule in COLD_RULES}
    pending: tuple[int, int, bool] | None = None
    for section in library.sections:
        rule = rules.get(section.name)
        if rule is None:
            if pending:
                yield pending
            pending = None
        elif pending and pending[2] == rule.is_code and section.address - pending[1] < PAGE_BYTES:
            pending = (pending[0], section.end, rule.is_code)
        else:
            if pending:
                yield pending
            pending = (section.address, section.end, rule.is_code)
    if pending:
        yield pending


def _old_strings(library: SharedLibrary, segment: Segment) -> Iterator[PageRun]:
    """The whole pages of the dynamic string table. The thin file has the table in another place."""
    table, size = library.tag(Tag.STRTAB), library.tag(Tag.STRSZ)
    if table is None or size is None or not segment.address <= table < segment.end:
        return
    start, end = page_ceil(table), page_floor(table + size)
    if end > start:
        yield PageRun(start, end, PageState.DEAD)


# patchelf fills the old place of a section that it moves with one of these letters, and strip makes zeros of them.
_FILLER_PAGES = tuple(filler * PAGE_BYTES for filler in (b"X", b"Z", b"\0"))
# A vector load of code that knows what it does with the rest may read so many bytes after the end of its data.
_READ_AFTER_END = 64


def _overwritten(library: SharedLibrary, segment: Segment, min_pages: int) -> Iterator[PageRun]:
    """Runs of pages that patchelf has overwritten. No section, and no program header but the PT_LOAD's, has a byte of them.

    A linker puts nothing but padding outside of sections, so no code has an address there.
    """
    for start, end in _gaps(library, segment):
        pages = range(page_ceil(start + _READ_AFTER_END), page_floor(end), PAGE_BYTES)
        for is_filler, run in groupby(pages, lambda address: library.at(address, PAGE_BYTES) in _FILLER_PAGES):
            addresses = list(run)
            if is_filler and len(addresses) >= min_pages:
                yield PageRun(addresses[0], addresses[-1] + PAGE_BYTES, PageState.DEAD)


def _gaps(library: SharedLibrary, segment: Segment) -> Iterator[tuple[int, int]]:
    """Addresses of a PT_LOAD that belong to no section and to no other kind of program header, as half-open ranges."""
    if not library.sections:
        return
    held = [(section.address, section.end) for section in library.sections]
    held += [
        (each.address, each.end) for each in library.segments if each.type != SegmentType.LOAD and each.memory_bytes
    ]
    position = segment.address
    for start, end in sorted(held):
        if position < start and position < segment.end:
            yield position, min(start, segment.end)
        position = max(position, end)
    if position < segment.end:
        yield position, segment.end


def _is_dead(library: SharedLibrary, segment: Segment) -> bool:
    """Whether nothing refers to the content of a PT_LOAD. patchelf leaves such segments behind when it moves a table again.

    patchelf appends them after linking, so no code has an address in them. The loader follows only the dynamic section
    and the program headers.
    """
    if not library.sections or segment.offset == 0:
        return False
    table = library.tag(Tag.STRTAB)
    held = [section for section in library.sections if section.address < segment.end and section.end > segment.address]
    others = [s for s in library.segments if s is not segment and s.memory_bytes and s.type != segment.type]
    headers = any(s.address < segment.end and s.end > segment.address for s in others)
    if not held and not headers:
        return True
    return all(section.address == table for section in held) and bool(held) and not headers


def _relocated_pages(library: SharedLibrary) -> Iterator[int]:
    """Pages that the loader writes to before the pager is loaded (DT_TEXTREL)."""
    fixed = [(s.address, s.end) for s in library.loads if not s.flags & Protection.WRITE]
    low, high = min((s for s, _ in fixed), default=0), max((e for _, e in fixed), default=0)
    for offset, _, _ in library.relocations():
        if low <= offset < high and any(start <= offset < end for start, end in fixed):
            yield offset // PAGE_BYTES
            yield (offset + 7) // PAGE_BYTES


_FUNCTION_BYTES = 8192  # so many bytes from its start are taken for a function's code
_MAX_RESOLVER_FUNCTIONS = 500


def _resolver_pages(library: SharedLibrary) -> set[int]:
    """Pages of IFUNC resolvers and of what they call: the loader runs them before any constructor, so before the pager.

    The called functions are found by the direct calls in the bytes of each function. Bytes that only look like a call
    keep one page too many hot, which does no harm. Call stubs stay hot as well, since a resolver may ask libc for the
    CPU's features.
    """
    waiting, seen, pages = list(library.resolvers()), set[int](), set[int]()
    if waiting:
        for section in library.sections:
            if section.name.startswith(".plt"):
                pages.update(range(section.address // PAGE_BYTES, section.end // PAGE_BYTES + 1))
    while waiting and len(seen) < _MAX_RESOLVER_FUNCTIONS:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        home = next((s for s in library.loads if s.address <= address < s.end and s.flags & Protection.EXECUTE), None)
        if home is None:
            continue
        code = library.at(address, min(_FUNCTION_BYTES, home.end - address))
        pages.update(range(address // PAGE_BYTES, (address + len(code) - 1) // PAGE_BYTES + 1))
        waiting.extend(_direct_calls(library.machine, code, address))
    return pages


def _direct_calls(machine: str, code: bytes, address: int) -> Iterator[int]:
    if machine == "x86_64":
        for match in re.finditer(rb"[\xe8\xe9](?=(....))", code, re.DOTALL):
            yield address + match.end() + 4 + struct.unpack("<i", match[1])[0]
    else:
        for position, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) // 4 * 4])):
            if word >> 26 in (0b100101, 0b000101):  # BL, B: a 26-bit word offset
                offset = word & 0x3FFFFFF
                yield address + position * 4 + 4 * (offset - (1 << 26) if offset >> 25 else offset)
