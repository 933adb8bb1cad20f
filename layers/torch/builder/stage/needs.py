"""What ELF files ask of the machine that loads them: architecture, versions of symbols, other libraries, symbols."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from builder.errors import RequirementsError

# What pyelftools raises for a damaged file, beside its own error.
_DAMAGE = (ELFError, AssertionError, AttributeError, LookupError, TypeError, ValueError, OverflowError, OSError)


class Needs(NamedTuple):
    """What one ELF file asks of the machine."""

    path: str
    machine: str  # pyelftools' name of e_machine, "EM_X86_64"
    versions: tuple[tuple[str, tuple[int, ...]], ...]  # such as ("GLIBC", (2, 34))
    libraries: tuple[str, ...]  # DT_NEEDED, in order


class Symbols(NamedTuple):
    """The names in a library's dynamic symbol table."""

    defined: frozenset[str]
    undefined: frozenset[str]  # those without which the library cannot work: weak ones are left out


def elf_files(tree: Path) -> Iterator[Path]:
    """Every regular file below `tree` that begins as ELF files do, in order of paths."""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def needs_of(path: Path, name: str) -> Needs:
    """Read what the ELF file asks for; `name` is what an error calls it.

    Raises:
        RequirementsError: The file is damaged.
    """
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            section = elf.get_section_by_name(".gnu.version_r")
            versions = _versions(section) if isinstance(section, GNUVerNeedSection) else set()
            dynamic = [segment for segment in elf.iter_segments("PT_DYNAMIC") if isinstance(segment, DynamicSegment)]
            libraries = tuple(
                str(tag.needed)  # type: ignore[attr-defined]  # pyelftools adds it to such tags
                for segment in dynamic
                for tag in segment.iter_tags("DT_NEEDED")
            )
            return Needs(name, str(elf["e_machine"]), tuple(sorted(versions)), libraries)
    except _DAMAGE as error:
        raise RequirementsError(
            f"{name} is a damaged ELF file: {error}", "install the package again (pip cache purge)"
        ) from error


def _versions(section: GNUVerNeedSection) -> set[tuple[str, tuple[int, ...]]]:
    found = set()
    for _, auxiliaries in section.iter_versions():
        for auxiliary in auxiliaries:
            namespace, _, version = auxiliary.name.rpartition("_")
            if re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
                found.add((namespace, tuple(int(part) for part in version.split("."))))
    return found


def can_be_mapped(path: Path) -> bool:
    """Whether each segment begins as far into a page of the file as into a page of memory, which loaders ask for (elf(5)).

    Of a file that is damaged in another way, it is the loader that says so.
    """
    try:
        with path.open("rb") as file:
            loaded = ELFFile(file).iter_segments("PT_LOAD")
            return all((each["p_offset"] - each["p_vaddr"]) % max(each["p_align"], 1) == 0 for each in loaded)
    except _DAMAGE:
        return True


def symbols_of(path: Path, name: str) -> Symbols:
    """Read a library's dynamic symbols; `name` is what an error calls it.

    Raises:
        RequirementsError: The file is damaged.
    """
    defined, undefined = set(), set()
    try:
        with path.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            if isinstance(table, SymbolTableSection):
                for symbol in table.iter_symbols():
                    if symbol["st_shndx"] != "SHN_UNDEF":
                        defined.add(symbol.name)
                    elif symbol["st_info"]["bind"] != "STB_WEAK":
                        undefined.add(symbol.name)
    except _DAMAGE as error:
        raise RequirementsError(
            f"{name} is a damaged ELF file: {error}", "install the package again (pip cache purge)"
        ) from error
    return Symbols(frozenset(defined), frozenset(undefined))
