"""Measures what a touch of cold code costs, and what it saves. The block size and the shortest cold run follow from it.

    PYTHONPATH=layers/torch python -m benchmarks.layer.faults [--torch FOLDER] [--megabytes 24] [--level 19] [--json FILE]

For each block size the program splits a copy of libtorch_cpu.so. Only a sample of its code becomes cold: extents of 1
MiB, spread evenly over .text. It loads the copy in a process of its own and touches each cold block once. That is a
real SIGSEGV, served by the real pager. The side file's bytes are those of the sample, scaled to all of .text. Times are
medians over the blocks with a warm page cache: by the clock, and of the CPU alone, which other work on the machine
disturbs less. The last column is the CPU time that brings in the whole sample, as a ratio to the smallest block size.

The second table is about the shortest cold run. Shorter runs stay hot, and each of them saves a program header. The
table comes from the recorded profiles, and nothing is compressed for it.
"""

import argparse
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from builder import paths
from builder.native.compile_pager import PAGER_NAME, build_pager
from builder.native.elf import SharedLibrary
from builder.native.layout import plan_layout
from builder.native.page_set import PAGE_BYTES, PageSet
from builder.native.side_file import FILE_NAME, read_index
from builder.native.split import LibraryPlan, thin

NAME = "torch/lib/libtorch_cpu.so"
SIZES = tuple(kib * 1024 for kib in (64, 128, 256, 512, 1024))
EXTENT = 1 << 20

TOUCH = r"""
import ctypes, json, sys, time
library, addresses = sys.argv[1], json.loads(sys.stdin.read())
ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
with open("/proc/self/maps") as maps:
    base = min(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith("/libtorch_cpu.so"))
times = []
for address in addresses:
    byte = ctypes.c_ubyte.from_address(base + address)
    start, cpu = time.perf_counter_ns(), time.thread_time_ns()
    byte.value
    times.append((time.perf_counter_ns() - start, time.thread_time_ns() - cpu))
print(json.dumps(times))
"""


def sample(library: SharedLibrary, megabytes: int) -> tuple[frozenset[int], float]:
    """The pages that stay hot, all but the sampled extents of .text, and the sample's share of .text."""
    text = next(section for section in library.sections if section.name == ".text")
    first, last = -(-text.address // PAGE_BYTES), text.end // PAGE_BYTES
    pages, extents = EXTENT // PAGE_BYTES, megabytes
    step = (last - first - pages) // max(1, extents - 1)
    cold = {first + i * step + page for i in range(extents) for page in range(pages)}
    everything = range(library.loads[-1].end // PAGE_BYTES + 1)
    return frozenset(everything) - cold, len(cold) * PAGE_BYTES / text.bytes


def measure(source: Path, pager: Path, block_bytes: int, level: int, megabytes: int) -> dict[str, Any]:
    """Measure one row: split with this block size, load, and touch."""
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        tree = Path(scratch)
        shutil.copytree(source.parent, (tree / NAME).parent, ignore=shutil.ignore_patterns("libtorch_python*"))
        side_file = tree / "torch_layer" / FILE_NAME
        shutil.copytree(pager.parent, side_file.parent)
        hot, share = sample(SharedLibrary.read(source), megabytes)
        report = thin({NAME: LibraryPlan(hot)}, tree, side_file, block_bytes, level)
        blocks = read_index(side_file)[0].blocks
        times = touch(tree / NAME, [block.fragments[0].address for block in blocks])
        wall, cpu = [pair[0] for pair in times], [pair[1] for pair in times]
        return {
            "block_bytes": block_bytes,
            "level": level,
            "blocks": len(blocks),
            "ratio": report.libraries[0].side / sum(block.bytes for block in blocks),
            "text_side_bytes": round(report.libraries[0].side / share),
            "median_ms": median(wall) / 1e6,
            "slowest_ms": max(wall) / 1e6,
            "median_cpu_ms": median(cpu) / 1e6,
            "sum_cpu_ms": sum(cpu) / 1e6,
            "split_seconds": report.seconds,
        }


def touch(library: Path, addresses: list[int]) -> list[tuple[int, int]]:
    """Nanoseconds by the clock and of CPU time, for the first touch of each address in a new process.

    The figures are those of a second run, so that the page cache is warm.
    """
    command = [sys.executable, "-S", "-c", TOUCH, str(library)]
    for _ in range(2):
        done = subprocess.run(command, input=json.dumps(addresses), capture_output=True, text=True, check=True)
    return [(wall, cpu) for wall, cpu in json.loads(done.stdout)]


def shortest_runs(site: Path, pages: PageSet) -> Iterator[str]:
    """Program headers and cold bytes by shortest cold run, in all libraries of the profiles, as Markdown."""
    yield "| shortest cold run | program headers | cold bytes |"
    yield "|---|---|---|"
    libraries = [(SharedLibrary.read(site / name), pages.of(name)) for name in sorted(pages.pages)]
    for pages_at_least in (1, 2, 3, 4, 8, 16):
        layouts = [plan_layout(library, hot, pages_at_least) for library, hot in libraries]
        headers = sum(len(runs) for layout in layouts for _, runs in layout.runs)
        cold = sum(run.end - run.start for layout in layouts for _, run in layout.cold())
        yield f"| {pages_at_least} pages | {headers} | {cold / 1e6:.1f} MB |"


def recorded() -> PageSet:
    """The pages of all committed profiles for this Python."""
    found = sorted(paths.PROFILES.glob(f"*-{sys.implementation.cache_tag}-*.json"))
    values = (json.loads(path.read_text(encoding="utf-8")) for path in found)
    return PageSet().union(*(PageSet.from_json(value["pages"]) for value in values))


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as Markdown."""
    yield "| block | side file for all of .text | compressed to | median fault | its CPU | slowest | whole sample, ratio |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['block_bytes'] // 1024} KiB | {row['text_side_bytes'] / 1e6:.1f} MB | {row['ratio']:.1%} "
            f"| {row['median_ms']:.2f} ms | {row['median_cpu_ms']:.2f} ms | {row['slowest_ms']:.2f} ms "
            f"| {row['sum_cpu_ms'] / rows[0]['sum_cpu_ms']:.2f} |"
        )


def main() -> None:
    """Print both tables. With --json, also write the first one to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found = importlib.util.find_spec("torch")
    parser.add_argument("--torch", type=Path, default=Path(found.origin or "").parent if found else None)
    parser.add_argument("--megabytes", type=int, default=24, help="how much of .text is sampled (default 24)")
    parser.add_argument("--level", type=int, default=19, help="zstd's level (default 19)")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pager-") as scratch:
        pager = build_pager(Path(scratch, PAGER_NAME), arch=platform.machine())
        source = options.torch / "lib" / "libtorch_cpu.so"
        rows = [measure(source, pager, size, options.level, options.megabytes) for size in SIZES]
    print("\n".join(table(rows)))
    print("\n" + "\n".join(shortest_runs(options.torch.parent, recorded())))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
