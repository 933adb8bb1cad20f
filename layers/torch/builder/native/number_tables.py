"""Finds the part of `.rodata` that may go cold: tables of numbers, which are never given to a system call.

The rest of `.rodata` must stay. A system call may get a pointer to a string in it (a path, a message), and for a cold
page it fails with EFAULT. The linker puts strings and tables into long stretches of their own. So long stretches
without any string are tables of kernels (MKL, oneDNN, SLEEF), and only instructions read them. Pages that the recorded
workload reads stay hot.
"""

import re
from collections.abc import Iterator

from builder.native.elf import SharedLibrary, page_ceil, page_floor
from builder.native.page_set import PAGE_BYTES

SECTION = ".rodata"
MIN_RUN_PAGES = 8  # a single page between strings may hold one long string, or a structure with a short one
# What could be a string: four printable characters and a zero byte, or so many that the zero may lie in the next page.
_TEXT = re.compile(rb"[\t\n\x20-\x7e]{4,}\0|[\t\n\x20-\x7e]{32,}|[\t\n\x20-\x7e]+\Z")


def table_runs(library: SharedLibrary) -> Iterator[tuple[int, int]]:
    """Ranges of addresses, page by page, that hold numbers and no strings."""
    for section in library.sections:
        if section.name != SECTION:
            continue
        start: int | None = None
        last = page_floor(section.end)
        for address in range(page_ceil(section.address), last + 1, PAGE_BYTES):
            is_table = address < last and _is_table(library.at(address, PAGE_BYTES))
            if is_table and start is None:
                start = address
            elif not is_table and start is not None:
                if address - start >= MIN_RUN_PAGES * PAGE_BYTES:
                    yield start, address
                start = None


def _is_table(page: bytes) -> bool:
    # A page of zeros may be padding that a program gives to write(2).
    return any(page) and not _TEXT.search(page)
