"""Counts what torch's registrations cost at load, by dispatch keys: `python -m benchmarks.layer.initialisers` (needs valgrind).

Each row loads a copy of the installed libtorch_cpu.so in a new process, without the static initialisers of one group:
the most that a start could save if these kernels were registered later. valgrind counts instructions, so the figures
are the same on a busy machine. A copy without initialisers cannot compute; it is only loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

LIBRARY = "libtorch_cpu.so"
# What a compiler calls the function that runs a source file's static initialisers.
INITIALISER = re.compile(r"_GLOBAL__sub_I_(\w+)\.cpp$")
RETURN = b"\xc3"  # the instruction `ret` of x86_64
RELOCATION_BYTES = 24
EXECUTE = 1  # PF_X


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


def installed_library() -> Path:
    """The libtorch_cpu.so of the environment's torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("this environment has no torch. Next: make setup")
    return Path(spec.origin).parent / "lib" / LIBRARY


def source_files(library: Path) -> dict[int, str]:
    """The address of each function that runs static initialisers, and its source file's name without `.cpp`."""
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(symbols, SymbolTableSection):
            raise SystemExit(f"{library} has no symbol table. Next: install torch's wheel again, and do not strip it")
        return {
            symbol["st_value"]: match[1]
            for symbol in symbols.iter_symbols()
            if (match := INITIALISER.match(symbol.name))
        }


def without(library: bytes, files: str, named: dict[int, str]) -> tuple[bytes, int]:
    """A copy of the library that does not call the initialisers of files that match, and how many these are.

    Args:
        library: the file as installed, or as it is in a built layer.
        files: a pattern of names of source files; empty for none.
        named: what `source_files` says of the installed library.
    """
    data, taken = bytearray(library), 0
    elf = ELFFile(io.BytesIO(library))
    dynamic = next(segment for segment in elf.iter_segments("PT_DYNAMIC"))
    assert isinstance(dynamic, DynamicSegment)
    tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
    first = tags["DT_INIT_ARRAY"]
    entries = range(first, first + tags["DT_INIT_ARRAYSZ"])
    start = next(elf.address_offsets(tags["DT_RELA"], tags["DT_RELASZ"]))
    code = next(each for each in elf.iter_segments("PT_LOAD") if each["p_flags"] & EXECUTE and each["p_filesz"])
    nothing = code["p_vaddr"] + data.index(RETURN, code["p_offset"]) - code["p_offset"]
    assert nothing < code["p_vaddr"] + code["p_filesz"]
    for offset in range(start, start + tags["DT_RELASZ"], RELOCATION_BYTES):
        place, _, address = struct.unpack_from("<QQq", data, offset)
        if files and place in entries and re.match(files, named.get(address, "")):
            struct.pack_into("<q", data, offset + RELOCATION_BYTES - 8, nothing)
            taken += 1
    return bytes(data), taken


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
    library = installed_library()
    if subprocess.run(["which", "valgrind"], capture_output=True).returncode:
        parser.error("valgrind is not installed. Next: install the package valgrind")
    print("| without | initialisers | instructions, M | share of the load |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="initialisers-") as scratch:
        for other in library.parent.iterdir():
            if other.name != LIBRARY:
                Path(scratch, other.name).symlink_to(other)
        copy = Path(scratch, LIBRARY)
        python = instructions("import ctypes")
        whole, named, content = 0, source_files(library), library.read_bytes()
        for group in (Group("nothing", ""), *GROUPS, Group("all of the first four", WAITING)):
            changed, taken = without(content, group.files, named)
            copy.write_bytes(changed)
            left = instructions("import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(copy)) - python
            whole = whole or left
            print(f"| {group.title} | {taken} | {left / 1e6:.0f} | {left / whole:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
