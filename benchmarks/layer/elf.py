"""What reading a library's tables costs, by pyelftools and in bulk: why `builder.native.elf` reads two of them itself.

    PYTHONPATH=layers/torch python -m benchmarks.layer.elf [LIBRARY]

LIBRARY defaults to the libtorch_cpu.so of the environment's torch. Each row is one table: CPU seconds by pyelftools' iterators,
CPU seconds in bulk with `struct`, and how many entries both ways found (which must be equal).
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationTable
from elftools.elf.sections import SymbolTableSection

from builder.native.elf import SharedLibrary


def seconds(count: Callable[[], int]) -> tuple[float, int]:
    """CPU seconds that counting takes, and what it counted."""
    started = time.process_time()
    found = count()
    return time.process_time() - started, found


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 1 if the two ways find different numbers of entries."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.elf", description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path, nargs="?", help="a shared library (default: torch's libtorch_cpu.so)")
    path: Path | None = parser.parse_args(argv).library
    if path is None:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            parser.error("this environment has no torch: name a library")
        path = Path(spec.origin).parent / "lib" / "libtorch_cpu.so"
    library = SharedLibrary.read(path)
    with path.open("rb") as file:
        elf = ELFFile(file)
        dynamic = next(segment for segment in elf.iter_segments("PT_DYNAMIC"))
        symbols = elf.get_section_by_name(".dynsym")
        assert isinstance(dynamic, DynamicSegment)
        assert isinstance(symbols, SymbolTableSection)
        tables = dynamic.get_relocation_tables()
        with_addend: list[RelocationTable] = [tables[name] for name in ("RELA", "JMPREL") if name in tables]
        rows = (
            ("relocations", lambda: sum(1 for table in with_addend for _ in table.iter_relocations()),
             lambda: sum(1 for _ in library.relocations())),
            ("dynamic symbols", lambda: sum(1 for _ in symbols.iter_symbols()), lambda: sum(1 for _ in library.symbols())),
        )  # fmt: skip
        sys.stdout.write(f"{path.name:<24}{'pyelftools':>12}{'in bulk':>12}{'entries':>12}\n")
        equal = True
        for name, slow, fast in rows:
            (by_pyelftools, expected), (in_bulk, found) = seconds(slow), seconds(fast)
            equal = equal and expected == found
            sys.stdout.write(f"{name:<24}{by_pyelftools:>10.2f} s{in_bulk:>10.2f} s{found:>12,}\n")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
