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
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from builder.native.elf import SharedLibrary
from builder.native.late_initialisers import INITIALISER, entries

LIBRARY = "libtorch_cpu.so"
RETURN = b"\xc3"  # the instruction `ret` of x86_64
RELOCATION = "<QQq"  # Elf64_Rela: offset, info, addend
RELOCATION_BYTES = struct.calcsize(RELOCATION)
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


class Initialiser(NamedTuple):
    """A function that runs the static initialisers of a source file.

    Attributes:
        place: where the library has its address for the loader.
        address: of the function.
        file: the source file's name without `.cpp`; empty if the symbol table has none.
    """

    place: int
    address: int
    file: str


def initialisers_of(library: Path) -> list[Initialiser]:
    """Those of an installed library, in the order in which the loader calls them."""
    read = SharedLibrary.read(library)
    named = {
        addresses.start: match[1].decode()
        for name, _, addresses in read.named_symbols(".symtab")
        if (match := INITIALISER.fullmatch(name))
    }
    if not named:
        raise SystemExit(f"{library} has no symbol table. Next: install torch's wheel again, and do not strip it")
    return [Initialiser(place, address, named.get(address, "")) for place, address in sorted(entries(read).items())]


def _relocations(elf: ELFFile) -> range:
    """Where the file has its table of relocations."""
    dynamic = next(segment for segment in elf.iter_segments("PT_DYNAMIC"))
    assert isinstance(dynamic, DynamicSegment)
    tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}
    start = next(elf.address_offsets(tags["DT_RELA"], tags["DT_RELASZ"]))
    return range(start, start + tags["DT_RELASZ"], RELOCATION_BYTES)


def without(library: bytes, files: str, initialisers: Iterable[Initialiser]) -> tuple[bytes, int]:
    """A copy of the library that calls all initialisers but those of files that match, and how many these are.

    Args:
        library: the file as installed, or as it is in a built layer.
        files: a pattern of names of source files; empty for none.
        initialisers: those of the installed library.
    """
    data, taken = bytearray(library), 0
    elf = ELFFile(io.BytesIO(library))
    code = next(each for each in elf.iter_segments("PT_LOAD") if each["p_flags"] & EXECUTE and each["p_filesz"])
    nothing = code["p_vaddr"] + data.index(RETURN, code["p_offset"]) - code["p_offset"]
    assert nothing < code["p_vaddr"] + code["p_filesz"]
    by_place = {each.place: each for each in initialisers}
    for offset in _relocations(elf):
        place, kind, _ = struct.unpack_from(RELOCATION, data, offset)
        if (each := by_place.get(place)) is not None:
            is_out = bool(files) and re.match(files, each.file) is not None
            struct.pack_into(RELOCATION, data, offset, place, kind, nothing if is_out else each.address)
            taken += is_out
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
        whole, found, content = 0, initialisers_of(library), library.read_bytes()
        for group in (Group("nothing", ""), *GROUPS, Group("all of the first four", WAITING)):
            changed, taken = without(content, group.files, found)
            copy.write_bytes(changed)
            left = instructions("import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(copy)) - python
            whole = whole or left
            print(f"| {group.title} | {taken} | {left / 1e6:.0f} | {left / whole:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
