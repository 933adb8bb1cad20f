"""Hot functions by their names: what a recording says of another build of the same library.

A profile has the pages that a workload touched, and pages are of one build: PyTorch compiles its libraries for each Python, and
once more for CUDA. Nearly all functions have the same names in all of these builds. So a profile also names the functions on hot
pages. In another build the pages of these functions are hot.

Names are in a wheel's symbol tables (`.symtab`), which the layer does not have: `strip` takes them out, and moves nothing.
"""

import base64
import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from builder.native.page_set import PAGE_BYTES, PageSet
from builder.native.selection import THRESHOLD_BYTES
from builder.profile.profiles import Profile

# For larger libraries it does not pay: nearly twice as many pages of libtorch_cpu as needed would be hot. Another build of it is
# recorded.
MOST_BYTES = 40_000_000
_SYMBOL = struct.Struct(
    "<IBBHQQ"
)  # Elf64_Sym: name, info, other, section, value, size (ELF-64 object file format, 1998)
_FUNCTION = 2  # STT_FUNC
KEY_LENGTH = 5


class Function(NamedTuple):
    """A function of a library: the key of its name, and its pages."""

    key: str
    pages: range


def key_of(name: bytes) -> str:
    """What stands for a name in a profile: 30 bits of its hash, so that two of 30,000 names are the same one time in three."""
    return base64.b64encode(hashlib.sha256(name).digest())[:KEY_LENGTH].decode()


def functions_of(library: Path) -> Iterator[Function]:
    """All functions that a library's symbol table has, of every scope; none if it was stripped."""
    with library.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return
        names = elf.get_section(table["sh_link"]).data()
        for start, kind, _, section, address, size in _SYMBOL.iter_unpack(table.data()):
            if kind & 15 == _FUNCTION and section and size:
                pages = range(address // PAGE_BYTES, (address + size - 1) // PAGE_BYTES + 1)
                yield Function(key_of(names[start : names.index(b"\0", start)]), pages)


def hot_functions(library: Path, pages: frozenset[int]) -> frozenset[str]:
    """The keys of functions on hot pages. A name that several functions have counts if all of them are hot."""
    every: Counter[str] = Counter()
    hot: Counter[str] = Counter()
    for function in functions_of(library):
        every[function.key] += 1
        hot[function.key] += not pages.isdisjoint(function.pages)
    return frozenset(key for key, count in hot.items() if count == every[key])


def pages_of(library: Path, hot: frozenset[str]) -> frozenset[int]:
    """The pages on which a library has these functions."""
    return frozenset(page for function in functions_of(library) if function.key in hot for page in function.pages)


def named(profile: Profile, installed: Path) -> Profile:
    """A recorded profile with the functions on its hot pages.

    Args:
        profile: Recorded on this tree.
        installed: The tree as pip made it, with symbol tables.
    """
    found = {}
    for name, pages in profile.pages.pages.items():
        if THRESHOLD_BYTES <= (installed / name).stat().st_size <= MOST_BYTES:
            found[name] = hot_functions(installed / name, pages)
    return replace(profile, functions={name: keys for name, keys in found.items() if keys})


def placed(profile: Profile, installed: Path) -> Profile:
    """A profile in which other builds of recorded libraries have hot pages, by the names of their functions.

    Args:
        profile: For this tree (`Profile.on`).
        installed: The tree as pip made it.

    Returns:
        The profile; `other_builds` has the libraries that are left, `by_name` the others.
    """
    found = {
        name: pages
        for name in sorted(profile.other_builds)
        if name in profile.functions and (pages := pages_of(installed / name, profile.functions[name]))
    }
    return replace(
        profile,
        pages=profile.pages.union(PageSet(found)),
        other_builds=profile.other_builds.difference(found),
        by_name=frozenset(found),
    )
