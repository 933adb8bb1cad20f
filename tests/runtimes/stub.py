"""A library that defines what torch's libraries need of CUDA, for a machine without CUDA.

A function returns 0, if it is none of `FAILS`. A variable is zero. A `type_info` has its name, since pybind11 reads names while
it registers classes.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

NAME = "libtorch_stub.so"
# Functions whose result is written through while the libraries are loaded: a null pointer would crash.
RETURNS_REFERENCE = {"_ZN4c10d15get_gil_checkerEv"}
# Functions that fail as on a machine without a GPU, and what they return then. After a 0 their caller reads a result that nobody
# wrote: the profiler went through a random number of devices.
FAILS = {"cudaGetDeviceCount": 100}  # cudaErrorNoDevice
VARIABLES = {"_ZN3c104cuda20CUDACachingAllocator9allocatorE"}
SYSTEM_LIBRARIES = ("libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "librt.so.1", "libdl.so.2")


class Processor(NamedTuple):
    """Processors that the stub can be assembled for.

    Attributes:
        machine: As `uname -m` says.
        compiler: Assembles and links for them, on any machine.
        folders: Where Debian, or another distribution, has their system libraries.
        loader: The file name of their dynamic loader.
        returns_zeros: Instructions that put the address of `zeros` into the first result register.
        returns_zero: Instructions that put 0 there.
        returns_number: Instructions that put a number there. `{number}` is the number.
        clears_second: Instructions that put 0 into the second result register.
        sets_table: Instructions that write a table's address to where the first argument points. `{table}` is its label.
    """

    machine: str
    compiler: str
    folders: tuple[Path, ...]
    loader: str
    returns_zeros: tuple[str, ...]
    returns_zero: tuple[str, ...]
    returns_number: tuple[str, ...]
    clears_second: tuple[str, ...]
    sets_table: tuple[str, ...]


PROCESSORS: Mapping[str, Processor] = {
    each.machine: each
    for each in (
        Processor(
            "x86_64",
            "x86_64-linux-gnu-gcc",
            (Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64"), Path("/usr/lib64")),
            "ld-linux-x86-64.so.2",
            ("lea zeros(%rip), %rax",),
            ("xor %eax, %eax",),
            ("mov ${number}, %eax",),
            ("xor %edx, %edx",),
            ("lea {table}+16(%rip), %rax", "mov %rax, (%rdi)"),
        ),
        Processor(
            "aarch64",
            "aarch64-linux-gnu-gcc",
            (Path("/usr/aarch64-linux-gnu/lib"), Path("/usr/lib/aarch64-linux-gnu"), Path("/lib64"), Path("/lib")),
            "ld-linux-aarch64.so.1",
            ("adrp x0, zeros", "add x0, x0, :lo12:zeros"),
            ("mov x0, xzr",),
            ("mov w0, #{number}",),
            ("mov x1, xzr",),
            ("adrp x1, {table}+16", "add x1, x1, :lo12:{table}+16", "str x1, [x0]"),
        ),
    )
}


class Symbol(NamedTuple):
    """A dynamic symbol: its ELF name, its type (`STT_FUNC`), whether the library defines it, and whether it needs it."""

    name: str
    kind: str
    is_defined: bool
    is_required: bool


def compiler_for(processor: Processor) -> str | None:
    """The compiler that is on PATH: the one that names the processors, or plain gcc on such a machine."""
    own = (
        subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True, check=False)
        if shutil.which("gcc")
        else None
    )
    if own is not None and own.stdout.startswith(processor.machine):
        return "gcc"
    return shutil.which(processor.compiler)


def symbols_of(library: Path) -> Iterator[Symbol]:
    """The dynamic symbols of a library."""
    with library.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(section, SymbolTableSection), library  # a shared library without dynamic symbols is of no use
        for entry in section.iter_symbols():
            bind = entry["st_info"]["bind"]
            is_defined = entry["st_shndx"] != "SHN_UNDEF"
            yield Symbol(entry.name, entry["st_info"]["type"], is_defined, not is_defined and bind == "STB_GLOBAL")


def missing_symbols(
    libraries: Iterable[Path], beside: Iterable[Path], processor: Processor
) -> tuple[dict[str, str], set[str]]:
    """What the libraries need and nobody defines (name to kind), and all names that somebody defines.

    Args:
        libraries: torch's own.
        beside: other libraries in the wheel, such as libgomp. A stub of `omp_*` would win over libgomp, so they count as defined.
        processor: Whose system libraries count as defined, too.
    """
    system = [folder / name for name in (processor.loader, *SYSTEM_LIBRARIES) for folder in processor.folders]
    needed: dict[str, str] = {}
    defined: set[str] = set()
    for library in libraries:
        for symbol in symbols_of(library):
            if symbol.is_defined:
                defined.add(symbol.name)
            elif symbol.is_required and not re.match("_?Py", symbol.name):
                needed[symbol.name] = symbol.kind
    for library in (*beside, *(path for path in system if path.exists())):
        defined.update(symbol.name for symbol in symbols_of(library) if symbol.is_defined)
    return {name: kind for name, kind in needed.items() if name not in defined}, defined


def source(missing: dict[str, str], defined: set[str], processor: Processor) -> str:
    """Assembly of a library that defines the missing symbols."""
    lines = [
        '.section .note.GNU-stack,"",@progbits',
        ".bss",
        ".balign 64",
        "zeros: .zero 4096",
        ".text",
        "nothing: ret",
    ]
    for number, (name, kind) in enumerate(sorted(missing.items())):
        owner = re.sub(r"^_ZN(\w+)C[12]E\w+$", r"_ZTIN\1E", name)
        if name.startswith("_ZTI"):
            lines += _type_info(name, f'"{name}"', f"name{number}", is_global=True)
        elif name.startswith("_ZTV") or name in VARIABLES or kind == "STT_OBJECT":
            lines += [".bss", ".balign 64", f'.globl "{name}"', f'.type "{name}", @object', f'"{name}": .zero 4096']
            lines += [f'.size "{name}", 4096']
        elif owner != name and (owner in missing or owner in defined):
            lines += _constructor(name, owner, number, processor)
        else:
            result = processor.returns_zeros if name in RETURNS_REFERENCE else processor.returns_zero
            if name in FAILS:
                result = tuple(line.format(number=FAILS[name]) for line in processor.returns_number)
            lines += _function(name, [*result, *processor.clears_second])
    return "\n".join(lines) + "\n"


def _type_info(symbol: str, label: str, name: str, *, is_global: bool) -> list[str]:
    lines = [".data", ".balign 16"]
    if is_global:
        lines += [f".globl {label}", f".type {label}, @object", f".size {label}, 16"]
    lines += [f"{label}: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, {name}"]
    return [*lines, ".section .rodata", f'{name}: .asciz "{symbol[4:]}"']


def _constructor(name: str, owner: str, number: int, processor: Processor) -> list[str]:
    """A constructor of a class with virtual functions: pybind11 asks a default argument for its type."""
    # The type_info is one of its own, equal by its name: the stub is loaded before all others.
    lines = _type_info(owner, f"type{number}", f"name{number}", is_global=False)
    lines += ['.section .data.rel.ro,"aw"', ".balign 16", f"vtable{number}: .quad 0, type{number}"]
    lines += [".rept 32", ".quad nothing", ".endr"]
    return lines + _function(name, [line.format(table=f"vtable{number}") for line in processor.sets_table])


def _function(name: str, body: list[str]) -> list[str]:
    head = [".text", ".balign 16", f'.globl "{name}"', f'.type "{name}", @function', f'"{name}":']
    return [*head, *body, "ret", f'.size "{name}", . - "{name}"']


def write(
    output: Path,
    missing: dict[str, str],
    defined: set[str],
    processor: Processor,
    compiler: str,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Assemble the stub library. Its name for the loader is that of the file.

    Args:
        output: The file.
        missing: The symbols that it defines, each with its kind.
        defined: Those that other libraries define.
        processor: Which processors it is for.
        compiler: Assembles and links for them.
        versions: The version of each symbol that is asked for by one. The loader refuses such a symbol from a library that has no
            versions at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        text, script = Path(folder, "stub.s"), Path(folder, "versions")
        text.write_text(source(missing, defined, processor))
        nodes: dict[str, list[str]] = {}
        for name, version in sorted(versions.items()):
            nodes.setdefault(version, []).append(name)
        script.write_text("".join(f"{version} {{ {'; '.join(names)}; }};\n" for version, names in nodes.items()))
        # The loader has libstdc++ in the process already. It is named here, so that its symbols have a version.
        library = next(path for each in processor.folders for path in [each / "libstdc++.so.6"] if path.exists())
        command = [compiler, "-shared", "-nostartfiles", f"-Wl,-soname,{output.name}", "-o", output, text, library]
        command += [f"-Wl,--version-script={script}"] if nodes else []
        subprocess.run([str(part) for part in command], check=True)
