"""A CPU wheel of torch for another Python, made from what PyPI carries.

    python -m runtimes.cpu_wheel 2.13.0 3.13 --base torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl --output FOLDER

PyTorch's own index has CPU wheels for every Python; PyPI has only CUDA wheels. Where that index cannot be reached, this program
makes a wheel that the builder takes like the real one. It is for tests alone: nobody should deploy it.

With `--base`, a CPU wheel of the same version for any Python, everything comes from the base but the two files that depend on the
Python: `torch/_C.*.so` and `torch/lib/libtorch_python.so`. They come from PyPI's wheel. Without `--base` everything comes from
PyPI's wheel but the CUDA libraries.

The libraries of a CUDA wheel miss symbols of the CUDA libraries. A stub library, made here from a list of these symbols, defines
them: a function returns 0, a variable is zero, a `type_info` has its name, since pybind11 reads names while it registers classes.
So `torch.cuda.device_count()` is 0.

Three differences from a real CPU wheel remain. `torch._C` carries the CUDA bindings. Its libraries went through patchelf. The
hash of the wheel is another.
"""

import argparse
import base64
import csv
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

STUB = "libtorch_stub.so"
PLATFORM = "manylinux_2_28_x86_64"
# The only files of a torch wheel that depend on the Python.
OF_PYTHON = re.compile(r"torch/_C\.[^/]*\.so|torch/lib/libtorch_python\.so")
CUDA_LIBRARY = re.compile(r"torch/lib/lib(torch_cuda|c10_cuda|caffe2_nvrtc|torch_nvshmem)[^/]*\.so")
CUDA_NEEDED = re.compile(
    r"lib(torch_cuda|torch_nvshmem|c10_cuda|caffe2_nvrtc|cudart|cudnn|cufile|nccl|cupti|nvrtc|nv[a-z]*|cublas|cu[a-z]+)[^/]*\.so"
)
CUDA_REQUIREMENT = re.compile(r"Requires-Dist: (nvidia-|cuda-|triton)[^\n]*\n")
# Functions whose result is written through while the libraries are loaded: a null pointer would crash.
RETURNS_REFERENCE = {"_ZN4c10d15get_gil_checkerEv"}
VARIABLES = {"_ZN3c104cuda20CUDACachingAllocator9allocatorE"}
SYSTEM_LIBRARIES = ("libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "librt.so.1", "libdl.so.2")
SYSTEM_FOLDERS = (Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64"), Path("/usr/lib64"))
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
WHEEL_DATE = (2026, 1, 1, 0, 0, 0)


class WheelError(Exception):
    """The wheel cannot be made; the message says why and what to do."""


class Symbol(NamedTuple):
    """A dynamic symbol: its ELF name, its type (`STT_FUNC`), whether the library defines it, and whether it needs it."""

    name: str
    kind: str
    is_defined: bool
    is_required: bool


def symbols_of(library: Path) -> Iterator[Symbol]:
    """The dynamic symbols of a library."""
    with library.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(section, SymbolTableSection), library  # a shared library without dynamic symbols is of no use
        for entry in section.iter_symbols():
            bind = entry["st_info"]["bind"]
            is_defined = entry["st_shndx"] != "SHN_UNDEF"
            yield Symbol(entry.name, entry["st_info"]["type"], is_defined, not is_defined and bind == "STB_GLOBAL")


def missing_symbols(libraries: Iterable[Path], beside: Iterable[Path]) -> tuple[dict[str, str], set[str]]:
    """What the libraries need and nobody defines (name to kind), and all names that somebody defines.

    Args:
        libraries: torch's own.
        beside: other libraries in the wheel, such as libgomp. A stub of `omp_*` would win over libgomp, so they count as defined.
    """
    system = [LOADER, *(folder / name for name in SYSTEM_LIBRARIES for folder in SYSTEM_FOLDERS)]
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


def stub_source(missing: dict[str, str], defined: set[str]) -> str:
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
            lines += _constructor(name, owner, number)
        else:
            result = "lea zeros(%rip), %rax" if name in RETURNS_REFERENCE else "xor %eax, %eax"
            lines += _function(name, [result, "xor %edx, %edx"])
    return "\n".join(lines) + "\n"


def _type_info(symbol: str, label: str, name: str, *, is_global: bool) -> list[str]:
    lines = [".data", ".balign 16"]
    if is_global:
        lines += [f".globl {label}", f".type {label}, @object", f".size {label}, 16"]
    lines += [f"{label}: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, {name}"]
    return [*lines, ".section .rodata", f'{name}: .asciz "{symbol[4:]}"']


def _constructor(name: str, owner: str, number: int) -> list[str]:
    """A constructor of a class with virtual functions: pybind11 asks a default argument for its type."""
    # The type_info is one of its own, equal by its name: the stub is loaded before all others.
    lines = _type_info(owner, f"type{number}", f"name{number}", is_global=False)
    lines += ['.section .data.rel.ro,"aw"', ".balign 16", f"vtable{number}: .quad 0, type{number}"]
    lines += [".rept 32", ".quad nothing", ".endr"]
    return lines + _function(name, [f"lea vtable{number}+16(%rip), %rax", "mov %rax, (%rdi)"])


def _function(name: str, body: list[str]) -> list[str]:
    head = [".text", ".balign 16", f'.globl "{name}"', f'.type "{name}", @function', f'"{name}":']
    return [*head, *body, "ret", f'.size "{name}", . - "{name}"']


def write_stub(output: Path, missing: dict[str, str], defined: set[str], versions: Mapping[str, str] = {}) -> None:
    """Assemble the stub library. Its name for the loader is that of the file.

    Args:
        output: The file.
        missing: The symbols that it defines, each with its kind.
        defined: Those that other libraries define.
        versions: The version of each symbol that is asked for by one. The loader refuses such a symbol from a library that has no
            versions at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "versions")
        nodes: dict[str, list[str]] = {}
        for name, version in sorted(versions.items()):
            nodes.setdefault(version, []).append(name)
        script.write_text("".join(f"{version} {{ {'; '.join(names)}; }};\n" for version, names in nodes.items()))
        source = Path(folder, "stub.s")
        source.write_text(stub_source(missing, defined))
        command = [
            "gcc",
            "-shared",
            "-nostartfiles",
            f"-Wl,-soname,{output.name}",
            "-o",
            str(output),
            str(source),
            "-lstdc++",
        ]
        command += [f"-Wl,--version-script={script}"] if nodes else []
        subprocess.run(command, check=True)


def download(version: str, python: str, folder: Path, project: str = "torch") -> Path:
    """PyPI's wheel of a project, without its requirements; the one that is in the folder already, if it is.

    Raises:
        WheelError: pip cannot get it.
    """
    tag = f"cp{python.replace('.', '')}"
    found = folder / f"{project}-{version}-{tag}-{tag}-{PLATFORM}.whl"
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", python, "--implementation", "cp", "--abi", tag, "--platform", PLATFORM]
    # A machine's own constraints on torch are meant for its own Python.
    environment = os.environ | {"PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run([*command, "--dest", str(folder), f"{project}=={version}"], env=environment, check=False)
    if done.returncode or not found.exists():
        raise WheelError(
            f"PyPI's {project} {version} for CPython {python} cannot be had.\nNext: see pip's message above"
        )
    return found


def require_tools() -> None:
    """Raise WheelError if a tool is missing."""
    if shutil.which("patchelf") is None or shutil.which("gcc") is None:
        raise WheelError("This needs patchelf and gcc.\nNext: apt-get install patchelf gcc")


def make(version: str, python: str, output: Path, base: Path | None, downloads: Path) -> Path:
    """The wheel, made unless it is there.

    Args:
        version: torch's, without a local part.
        python: `3.13`.
        output: The folder for the wheel.
        base: A CPU wheel of the same version for any Python, or None.
        downloads: Where PyPI's wheels are kept.

    Returns:
        The wheel's path.

    Raises:
        WheelError: PyPI has no such wheel, the base is another version's, or a tool is missing.
    """
    tag = f"cp{python.replace('.', '')}"
    wheel = output / f"torch-{version}+cpu-{tag}-{tag}-{PLATFORM}.whl"
    if wheel.exists():
        return wheel
    if base is not None and f"torch-{version}+cpu-" not in base.name:
        raise WheelError(f"{base.name} is no CPU wheel of torch {version}.\nNext: name one, or leave --base out")
    require_tools()
    source = download(version, python, downloads)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix="cpu-wheel-") as scratch:
        tree = Path(scratch, "tree")
        if base is None:
            extract(source, tree, lambda name: not CUDA_LIBRARY.fullmatch(name))
            call_it_cpu(tree, "torch", version)
        else:
            extract(base, tree, lambda name: not OF_PYTHON.fullmatch(name))
            extract(source, tree, lambda name: OF_PYTHON.fullmatch(name) is not None)
        _replace_cuda(tree)
        write_wheel(tree, Path(scratch, "wheel"), tag)
        Path(scratch, "wheel").rename(wheel)
    return wheel


def extract(wheel: Path, folder: Path, is_wanted: Callable[[str], bool]) -> None:
    """Unpack those files of a wheel of whose names this is true."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if is_wanted(name)])


def call_it_cpu(tree: Path, project: str, version: str) -> None:
    """Name the tree of a project's wheel as a CPU build names itself."""
    file = tree / project / "version.py"
    text = re.sub(r"(__version__ = '[0-9.]+)[^']*'", r"\1+cpu'", file.read_text())
    file.write_text(re.sub(r"(cuda[^=\n]*= )'[0-9.]+'", r"\1None", text))
    information = (tree / f"{project}-{version}.dist-info").rename(tree / f"{project}-{version}+cpu.dist-info")
    file = information / "METADATA"
    text = CUDA_REQUIREMENT.sub("", file.read_text())
    file.write_text(text.replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n"))


def _replace_cuda(tree: Path) -> None:
    """Put the stub in the place of every CUDA library that torch's libraries need."""
    libraries = sorted((tree / "torch").rglob("*.so"))
    beside = sorted((tree / "torch").rglob("*.so.*"))
    write_stub(tree / "torch" / "lib" / STUB, *missing_symbols(libraries, beside))
    # The extension module says that CUDA is there. torch 2.15 registers Python kernels for it if so.
    for file in tree.glob("torch/backends/cuda/__init__.py"):
        file.write_text(file.read_text().replace("return torch._C._has_cuda", "return torch.version.cuda is not None"))
    for library in libraries:
        need_stub(library, STUB, "$ORIGIN:$ORIGIN/lib" if library.name.startswith("_C.") else "$ORIGIN")


def need_stub(library: Path, stub: str, search: str) -> None:
    """Let a library need the stub where it needs CUDA libraries, and find it on the path `search`."""
    listed = subprocess.run(["patchelf", "--print-needed", library], capture_output=True, text=True, check=True)
    # "replace" also renames what symbol versions name: the loader asserts that each such library is a needed one.
    options = [
        part for name in listed.stdout.split() if CUDA_NEEDED.match(name) for part in ("--replace-needed", name, stub)
    ]
    if options:
        subprocess.run(["patchelf", *options, "--set-rpath", search, library], check=True)


def write_wheel(tree: Path, output: Path, tag: str) -> None:
    """Zip the tree as a wheel (PyPA's binary distribution format) for the Python `tag`, with a RECORD of its own."""
    (information,) = tree.glob("*.dist-info")
    wheel = information / "WHEEL"
    wheel.write_text(re.sub(r"cp\d+-cp\d+", f"{tag}-{tag}", wheel.read_text()))
    record = information / "RECORD"
    record.unlink()
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(each for each in tree.rglob("*") if each.is_file()):
            name, content = path.relative_to(tree).as_posix(), path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            writer.writerow([name, f"sha256={digest}", len(content)])
            entry = zipfile.ZipInfo(name, WHEEL_DATE)
            # pip makes executable what is a regular file with such a mode; torch starts `bin/torch_shm_manager`.
            entry.external_attr = (stat.S_IFREG | (0o755 if content.startswith(b"\x7fELF") else 0o644)) << 16
            archive.writestr(entry, content)
        name = record.relative_to(tree).as_posix()
        writer.writerow([name, "", ""])
        archive.writestr(zipfile.ZipInfo(name, WHEEL_DATE), rows.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Make one wheel and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.cpu_wheel", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("version", help="torch's version, for example 2.13.0")
    parser.add_argument("python", help="the Python's version, for example 3.13")
    parser.add_argument("--base", type=Path, help="a CPU wheel of the same version for any Python")
    parser.add_argument("--output", type=Path, required=True, help="folder for the wheel")
    parser.add_argument("--downloads", type=Path, help="folder for PyPI's wheels (default: below the output)")
    arguments = parser.parse_args(argv)
    downloads = arguments.downloads or arguments.output / "downloads"
    try:
        wheel = make(arguments.version, arguments.python, arguments.output, arguments.base, downloads)
    except WheelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{wheel}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
