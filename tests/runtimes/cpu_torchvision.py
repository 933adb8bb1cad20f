"""A CPU wheel of torchvision, made from what PyPI carries.

    python -m runtimes.cpu_torchvision 0.28.0 --output FOLDER

PyTorch's own index has CPU wheels of torchvision; PyPI has only CUDA wheels, which cannot be imported next to a CPU torch. Where
that index cannot be reached, this program makes a wheel that the builder takes like the real one. It is for tests and benchmarks
alone: nobody should deploy it.

Everything comes from PyPI's wheel but the CUDA libraries. `runtimes.stub` says how a stub takes their place. So the
operators for CPU are the real ones, and those for CUDA are never called. Two differences from a real CPU wheel remain: the
libraries also carry the code that calls CUDA, 6.7 MB of it for GPUs, and they went through patchelf.
"""

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from runtimes import cpu_wheel, stub

STUB = "libtorchvision_stub.so"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make(version: str, output: Path, downloads: Path) -> Path:
    """The wheel for the Python that runs this, made unless it is there.

    Args:
        version: torchvision's, without a local part.
        output: The folder for the wheel.
        downloads: Where PyPI's wheel is kept.

    Returns:
        The wheel's path.

    Raises:
        WheelError: PyPI has no such wheel, a tool is missing, or this Python has no torch to look at.
    """
    machine = platform.machine()
    wheel = output / cpu_wheel.file_name(f"{version}+cpu", PYTHON, machine, "torchvision")
    if wheel.exists():
        return wheel
    tools = cpu_wheel.tools_for(machine)
    source = cpu_wheel.download(version, PYTHON, machine, downloads, "torchvision")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix="cpu-torchvision-") as scratch:
        tree = Path(scratch, "tree")
        cpu_wheel.extract(source, tree, lambda name: not cpu_wheel.CUDA_NEEDED.match(name.rpartition("/")[2]))
        cpu_wheel.call_it_cpu(tree, "torchvision", version)
        _replace_cuda(tree, *tools)
        cpu_wheel.write_wheel(tree, Path(scratch, "wheel"), f"cp{PYTHON.replace('.', '')}")
        Path(scratch, "wheel").rename(wheel)
    return wheel


def _replace_cuda(tree: Path, processor: stub.Processor, compiler: str) -> None:
    libraries = sorted((tree / "torchvision").glob("*.so"))
    beside = [path for path in sorted((tree / "torchvision.libs").iterdir()) if ".so" in path.name]
    missing, defined = stub.missing_symbols(libraries, [*beside, *_of_torch()], processor)
    # It lies where torchvision's other libraries lie. torch's may not be there: they are loaded already.
    versions = {name: version for library in libraries for name, version in _versions_needed(library)}
    asked = {name: version for name, version in versions.items() if name in missing}
    stub.write(tree / "torchvision.libs" / STUB, missing, defined, processor, compiler, asked)
    for library in libraries:
        cpu_wheel.need_stub(library, STUB, "$ORIGIN:$ORIGIN/../torchvision.libs")


def _versions_needed(library: Path) -> Iterator[tuple[str, str]]:
    """The symbols that a library asks for in a version, with that version."""
    with library.open("rb") as file:
        elf = ELFFile(file)
        symbols, indices, needs = map(elf.get_section_by_name, (".dynsym", ".gnu.version", ".gnu.version_r"))
        assert isinstance(symbols, SymbolTableSection), library
        assert isinstance(indices, GNUVerSymSection), library
        assert isinstance(needs, GNUVerNeedSection), library
        names = {part["vna_other"]: part.name for _, parts in needs.iter_versions() for part in parts}
        for number, symbol in enumerate(symbols.iter_symbols()):
            version = names.get(indices.get_symbol(number)["ndx"])
            if version is not None:
                yield symbol.name, version


def _of_torch() -> list[Path]:
    found = find_spec("torch")
    if found is None or found.origin is None:
        raise cpu_wheel.WheelError("This Python has no torch.\nNext: make setup, and use .venv/bin/python")
    return sorted(Path(found.origin).with_name("lib").glob("*.so*"))


def main(argv: list[str] | None = None) -> int:
    """Make one wheel and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.cpu_torchvision", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("version", help="torchvision's version, for example 0.28.0")
    parser.add_argument("--output", type=Path, required=True, help="folder for the wheel")
    parser.add_argument("--downloads", type=Path, help="folder for PyPI's wheel (default: below the output)")
    arguments = parser.parse_args(argv)
    downloads = arguments.downloads or arguments.output / "downloads"
    return cpu_wheel.print_path(lambda: make(arguments.version, arguments.output, downloads))


if __name__ == "__main__":
    sys.exit(main())
