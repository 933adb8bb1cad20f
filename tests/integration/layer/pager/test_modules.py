"""The pager's C files: who calls whom, and that every compiler at hand accepts them without a warning."""

import graphlib
import platform
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from builder import paths
from builder.native.compile_pager import COMPILERS, find_compiler, zstd_source

MACHINES = [
    pytest.param(
        machine,
        marks=pytest.mark.skipif(find_compiler(machine) is None, reason=f"needs a C compiler for {machine}"),
    )
    for machine in COMPILERS
]


def _compile(folder: Path, machine: str, *options: str) -> list[Path]:
    """The object files of the pager's own sources. The compiler stops at its first warning."""
    compiler = find_compiler(machine)
    with zstd_source() as zstd:
        command = ["make", "-s", "-C", str(paths.PAGER), f"OUT={folder}", f"ZSTD={zstd}", f"CC={compiler}", "STRICT=1"]
        done = subprocess.run([*command, *options, "objects"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sorted((folder / ".objects").glob("*.o"))


def _symbols(path: Path) -> tuple[set[str], set[str]]:
    """The global names that an object file defines, and those that it needs."""
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        names = [symbol for symbol in table.iter_symbols() if symbol["st_info"]["bind"] == "STB_GLOBAL"]
        needed = {symbol.name for symbol in names if symbol["st_shndx"] == "SHN_UNDEF"}
        return {symbol.name for symbol in names} - needed, needed


def _dependencies(objects: list[Path]) -> dict[str, set[str]]:
    """For each object file, the other object files whose names it uses."""
    symbols = {path.stem: _symbols(path) for path in objects}
    home = {name: stem for stem, (defined, _) in symbols.items() for name in defined}
    return {stem: {home[name] for name in needed & home.keys()} for stem, (_, needed) in symbols.items()}


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_files_need_each_other_one_way(tmp_path: Path, machine: str, recording: bool) -> None:
    """No file of the pager needs itself through others, and no compiler warns, in either variant."""
    needs = _dependencies(_compile(tmp_path, machine, *(["RECORDING=1"] if recording else [])))
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError
    assert needs["message"] == set()
    assert needs["pager"] > {"fault", "handler", "guard"}
    assert not any("pager" in names for names in needs.values())
    assert ("record" in needs["fault"]) == recording


# Both filters are compiled, so that tests can run both on one machine. The linker drops the one that no pager calls.
OTHERS_FILTER = {"x86_64": {"filter_arm64_decode"}, "aarch64": {"filter_x86_decode"}}


def test_every_name_is_used(tmp_path: Path) -> None:
    """Each function that a file offers is called by another file or exported, but for the filter of other processors."""
    objects = _compile(tmp_path, platform.machine(), "RECORDING=1")
    symbols = [_symbols(path) for path in objects]
    needed = set[str]().union(*(names for _, names in symbols))
    offered = set[str]().union(*(names for names, _ in symbols))
    unused = {name for name in offered - needed if not name.startswith("torch_layer_pager_")}
    assert unused == OTHERS_FILTER[platform.machine()]
