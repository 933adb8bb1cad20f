"""The compiled pager: where it runs, what it shows, and that it compiles for the other architecture."""

import platform
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from builder.errors import BuildError
from builder.native.compile_pager import COMPANION_NAME, PAGER_NAME, build_pager, find_compiler
from paging.kit import compiled_pager

OLDEST_GLIBC = (2, 17)


def _glibc_versions(path: Path) -> set[tuple[int, ...]]:
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
        if section is None:
            return set()
        assert isinstance(section, GNUVerNeedSection)
        names = [aux.name for _, versions in section.iter_versions() for aux in versions]
    return {tuple(int(part) for part in name.removeprefix("GLIBC_").split(".")) for name in names}


def _machine_and_exports(path: Path) -> tuple[str, set[str]]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        exports = {symbol.name for symbol in table.iter_symbols() if symbol["st_shndx"] != "SHN_UNDEF"}
        return elf["e_machine"], exports


@pytest.mark.parametrize("recording", [False, True])
def test_the_pager_runs_on_old_glibc(recording: bool) -> None:
    """The pager needs no symbol newer than glibc 2.17, far below the runtime's 2.34, whatever machine compiled it."""
    versions = _glibc_versions(compiled_pager(recording) / PAGER_NAME)
    assert versions
    assert max(versions) <= OLDEST_GLIBC


def test_the_pager_shows_only_its_own_names() -> None:
    """zstd's symbols are hidden: another zstd in the process must not be called instead of the one that is inside."""
    _, exports = _machine_and_exports(compiled_pager() / PAGER_NAME)
    assert exports
    assert all(name.startswith("torch_layer_pager_") for name in exports)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine's own compiler is tried by all other tests")
@pytest.mark.skipif(
    find_compiler("aarch64") is None, reason="needs a cross compiler (Debian: apt-get install gcc-aarch64-linux-gnu)"
)
def test_the_pager_compiles_for_aarch64() -> None:
    """The cross compiler makes the pager and its companion without a warning, against no newer glibc."""
    folder = compiled_pager(arch="aarch64")
    for name in (PAGER_NAME, COMPANION_NAME):
        machine, _ = _machine_and_exports(folder / name)
        assert machine == "EM_AARCH64"
        assert all(version <= OLDEST_GLIBC for version in _glibc_versions(folder / name))


def test_an_unknown_architecture(tmp_path: Path) -> None:
    """An architecture that the pager was not written for is refused by name."""
    with pytest.raises(BuildError, match="riscv64"):
        build_pager(tmp_path / PAGER_NAME, arch="riscv64")
