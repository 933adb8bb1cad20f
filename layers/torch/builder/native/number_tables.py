"""Finds the part of `.rodata` that may go cold: tables of numbers, which no system call is ever handed.

`.rodata` as a whole must stay: the kernel may be given a pointer to a string in it (a path, a message), and answers EFAULT
for a cold page instead of faulting. The linker lays strings and tables out in long stretches of their own, so long stretches
without any string are tables of kernels (MKL, oneDNN, SLEEF), read by instructions only. Pages that the recorded workload
reads stay hot, like any other.
"""

import re
from collections.abc import Iterator

from builder.native.elf import SharedLibrary, page_ceil, page_floor
from builder.native.page_set import PAGE_BYTES

SECTION = ".rodata"
MIN_RUN_PAGES = 8  # a lone page between strings is rather a page of long strings, or holds a structure with a short one
# What could be a string: four printable characters and the end, or so many that the end may lie in the next page.
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
    # Zeros may be what pads a file: a buffer that is handed to write(2).
    return any(page) and not _TEXT.search(page)
