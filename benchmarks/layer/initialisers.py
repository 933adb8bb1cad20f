"""Counts what torch's registrations cost at load, by dispatch keys: `python -m benchmarks.layer.initialisers` (needs valgrind).

Each row loads a copy of the installed libtorch_cpu.so in a new process, without the static initialisers of one group:
the most that a start could save if these kernels were registered later. valgrind counts instructions, so the figures
are the same on a busy machine. A copy without initialisers cannot compute; it is only loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

LIBRARY = "libtorch_cpu.so"
# What a compiler calls the function that runs a source file's static initialisers.
INITIALISER = re.compile(r"_GLOBAL__sub_I_(\w+)\.cpp$")
RETURN = b"\xc3"  # the instruction `ret` of x86_64
RELOCATION_BYTES = 24


class Group(NamedTuple):
    """Source files whose initialisers register kernels that could wait for the same reason.

    Attributes:
        title: the name of the row.
        files: a pattern of the names of these source files, without `.cpp`.
    """

    title: str
    files: str


GROUPS = (
    Group("tracing", "TraceType"),
    Group("autograd, in-place and views", "VariableType|ADInplaceOrViewType"),
    Group("vmap and functorch", "BatchRules|LegacyBatching|LegacyVmap|PyTorchOperatorHacks|VmapMode"),
    Group(
        "functionalisation, meta, sparse, nested, quantised, autocast",
        "RegisterFunctionalization|Functionaliz|RegisterMeta|RegisterSparse|RegisterNested|RegisterQuantized|ZeroTensor"
        "|autocast_mode",
    ),
    Group("CPU kernels", "RegisterCPU|RegisterMkldnnCPU"),
    Group("composite kernels", "RegisterComposite"),
    Group("operator schemas", "RegisterSchema"),
)
# Kernels of these groups could wait: a program that only answers requests does not call them.
WAITING = "|".join(group.files for group in GROUPS[:4])


def without(library: Path, target: Path, files: str | None) -> int:
    """Copy the library, but for the initialisers of files that match; return how many were taken out."""
    data = bytearray(library.read_bytes())
    taken = 0
    with library.open("rb") as file:
        elf = ELFFile(file)
        symbols, relocations = elf.get_section_by_name(".symtab"), elf.get_section_by_name(".rela.dyn")
        array, text = elf.get_section_by_name(".init_array"), elf.get_section_by_name(".text")
        if not isinstance(symbols, SymbolTableSection) or not isinstance(relocations, RelocationSection):
            raise SystemExit(f"{library} has no symbol table. Next: install torch's wheel again, and do not strip it")
        named = {
            symbol["st_value"]: match[1]
            for symbol in symbols.iter_symbols()
            if (match := INITIALISER.match(symbol.name))
        }
        assert array is not None
        assert text is not None
        nothing = text["sh_addr"] + data.find(RETURN, text["sh_offset"]) - text["sh_offset"]
        entries = range(array["sh_addr"], array["sh_addr"] + array["sh_size"])
        start, size = relocations["sh_offset"], relocations["sh_size"]
    for offset in range(start, start + size, RELOCATION_BYTES):
        place, _, address = struct.unpack_from("<QQq", data, offset)
        if place in entries and files is not None and re.match(files, named.get(address, "")):
            struct.pack_into("<q", data, offset + RELOCATION_BYTES - 8, nothing)
            taken += 1
    target.write_bytes(data)
    return taken


def instructions(code: str, *arguments: str, preload: Path | None = None) -> int:
    """The instructions that a new Python runs for this code, with a library that comes before all others."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-S", "-c", code]
    variables = {"LD_PRELOAD": str(preload)} if preload else {}
    done = subprocess.run([*command, *arguments], env=os.environ | variables, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"The library could not be loaded:\n{done.stderr.strip()[-2000:]}")
    return int(found[1])


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layer.initialisers", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        parser.error("this environment has no torch. Next: make setup")
    folder = Path(spec.origin).parent / "lib"
    if subprocess.run(["which", "valgrind"], capture_output=True).returncode:
        parser.error("valgrind is not installed. Next: install the package valgrind")
    print("| without | initialisers | instructions, M | share of the load |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="initialisers-") as scratch:
        for other in folder.iterdir():
            if other.name != LIBRARY:
                Path(scratch, other.name).symlink_to(other)
        copy = Path(scratch, LIBRARY)
        python = instructions("import ctypes")
        whole = 0
        for group in (Group("nothing", ""), *GROUPS, Group("all of the first four", WAITING)):
            taken = without(folder / LIBRARY, copy, group.files or None)
            left = instructions("import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(copy)) - python
            whole = whole or left
            print(f"| {group.title} | {taken} | {left / 1e6:.0f} | {left / whole:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
