"""Measures what allocation costs a start: `python -m benchmarks.layer.allocation` (needs `make layer`, valgrind, a compiler).

Loading PyTorch allocates about a million small objects. Two tables say what a better heap could save. The first counts
instructions of loading the installed libtorch_cpu.so, with glibc's malloc and with `bump.c`, which takes memory from one
piece and never gives it back: nothing is cheaper. The second has CPU seconds and peak memory of a start on the layer,
with the same allocator and with settings of glibc's, in turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.layer.initialisers import LIBRARY, instructions
from benchmarks.layer.measure import Start, start
from benchmarks.layer.native import LAYER

SOURCE = Path(__file__).with_name("bump.c")
# mallopt(3). A setting turns off the limits that glibc adjusts by itself, so each row says what it sets.
_MALLOPT = "import ctypes; libc = ctypes.CDLL(None); assert {}\n"


class Heap(NamedTuple):
    """One way to allocate: the name of the row, Python that runs before torch is imported, and environment variables."""

    title: str
    prelude: str = ""
    variables: dict[str, str] = {}  # noqa: RUF012 -- never changed


def heaps(bump: Path) -> tuple[Heap, ...]:
    """The rows of the second table. `bump` is the compiled allocator."""
    return (
        Heap("glibc's malloc, as it is"),
        Heap("an allocator at no cost (`bump.c`)", variables={"LD_PRELOAD": str(bump)}),
        Heap("the heap grows by 64 MB (M_TOP_PAD)", _MALLOPT.format("libc.mallopt(-2, 64 << 20)")),
        Heap(
            "the same, and no block is a mapping of its own (M_MMAP_THRESHOLD)",
            _MALLOPT.format("libc.mallopt(-2, 64 << 20) and libc.mallopt(-3, 1 << 30)"),
        ),
        Heap("more free blocks for each thread", variables={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=65535"}),
        Heap("no free blocks of a thread", variables={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}),
    )


def count(bump: Path) -> None:
    """Print the first table."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("this environment has no torch. Next: make setup")
    library = str(Path(spec.origin).parent / "lib" / LIBRARY)
    print("| loading libtorch_cpu | instructions, M | ratio |\n|---|---|---|")
    whole = 0
    for title, preload in (("glibc's malloc", None), ("an allocator at no cost (`bump.c`)", bump)):
        python = instructions("import ctypes", preload=preload)
        load = instructions("import ctypes, sys; ctypes.CDLL(sys.argv[1])", library, preload=preload) - python
        whole = whole or load
        print(f"| {title} | {load / 1e6:.0f} | {load / whole:.2f} |", flush=True)


def measure(bump: Path, runs: int) -> None:
    """Print the second table."""
    rows = heaps(bump)
    found: dict[str, list[Start]] = {each.title: [] for each in rows}
    for number in range(runs + 1):
        print(f"  round {number} of {runs}", file=sys.stderr, flush=True)
        for each in rows:
            result = start(LAYER, each.prelude, each.variables)
            if number:  # the first round fills the page cache
                found[each.title].append(result)
    print("\n| a start on the layer | CPU, s | ratio | peak memory, MB |\n|---|---|---|---|")
    base = median(each.cpu_seconds for each in found[rows[0].title])
    for title, starts in found.items():
        cpu, peak = (
            median(values) for values in zip(*((each.cpu_seconds, each.peak_bytes) for each in starts), strict=True)
        )
        print(f"| {title} | {cpu:.3f} | {cpu / base:.2f} | {peak / 1e6:.0f} |")


def main(argv: list[str] | None = None) -> int:
    """Print both tables. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.allocation", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="starts for each row (default: %(default)s)")
    options = parser.parse_args(argv)
    for program, package in (("valgrind", "valgrind"), ("cc", "gcc")):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed. Next: install the package {package}")
    if not LAYER.is_dir():
        parser.error("there is no layer in build/layer. Next: make layer")
    with tempfile.TemporaryDirectory(prefix="allocation-") as scratch:
        bump = Path(scratch, "bump.so")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(bump), str(SOURCE)], check=True)
        count(bump)
        measure(bump, options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
