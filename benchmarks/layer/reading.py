"""Counts what a start does with files: `python -m benchmarks.layer.reading` (needs `make layer`, strace and a compiler).

The first table has file operations of a start, by strace. The second has what a start reads of the layer's largest files,
with the kernel's reading ahead and without it, and what the same runs of pages would take if those that a start touches
stood together in the file. The third has the sections of libtorch_cpu. No other process may read the layer meanwhile.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.layer.measure import PROGRAM
from benchmarks.layer.native import LAYER
from builder.native.elf import SEGMENT_BYTES, Segment, SegmentType, SharedLibrary
from lambda_torch.layers import chunks

SOURCE = Path(__file__).with_name("no_read_ahead.c")
CHUNK = 512 * 1024
SECTIONS = 6  # of a library's, so many of the largest
FILES = (
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libtorch_python.so",
    "torch_layer/libraries.cold",
    "torch_layer/modules.cold",
)
# The system calls that a row counts, and whether it counts only those that failed.
OPERATIONS = (
    ("files opened", ("open", "openat"), False),
    ("of these, not there", ("open", "openat"), True),
    ("names looked up", ("stat", "lstat", "newfstatat", "access", "readlink"), False),
    ("reads", ("read", "pread64"), False),
    ("mappings made", ("mmap",), False),
    ("memory asked for (brk)", ("brk",), False),
)


def operations(tree: Path) -> list[int]:
    """How many file operations a start from a folder makes, in the order of `OPERATIONS`."""
    with tempfile.NamedTemporaryFile("r") as output:
        command = ["strace", "-f", "-c", "-o", output.name, sys.executable, "-S", "-P", "-s", "-c", PROGRAM]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        found = {}
        for line in output:
            if match := re.fullmatch(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)\s*", line):
                found[match[3]] = (int(match[1]), int(match[2] or 0))
    return [sum(found.get(call, (0, 0))[failed] for call in calls) for _, calls, failed in OPERATIONS]


def resident(variables: dict[str, str]) -> dict[str, list[int]]:
    """The pages of the layer's largest files that a start leaves in the page cache, which had none of them before."""
    paths = [path for path in sorted(LAYER.rglob("*")) if path.is_file()]
    for path in paths:
        chunks._evict(path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LAYER), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = [sys.executable, "-S", "-P", "-s", "-c", chunks.START]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {name: chunks._resident(LAYER / name) for name in FILES}


def in_touched_runs(path: Path, touched: set[int]) -> int:
    """The pages of the runs (PT_LOADs) of a thin library that have at least one touched page."""
    data = path.read_bytes()
    (offset,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    pages = 0
    for number in range(count):
        segment = Segment(*struct.unpack_from("<IIQQQQQQ", data, offset + number * SEGMENT_BYTES))
        if segment.type == SegmentType.LOAD and segment.file_bytes:
            run = range(segment.offset // chunks.PAGE, (segment.offset + segment.file_bytes - 1) // chunks.PAGE + 1)
            pages += len(run) if touched.intersection(run) else 0
    return pages


def by_section(name: str, touched: set[int]) -> list[tuple[str, int, int]]:
    """For the largest sections of a library: their bytes in the layer's file, and those of the pages that were touched."""
    installed = SharedLibrary.read(Path(sysconfig.get_path("purelib")) / name)
    loads = [load for load in SharedLibrary.read(LAYER / name).loads if load.file_bytes]
    found = []
    for section in installed.sections:
        kept = used = 0
        for load in loads:
            start, end = max(load.address, section.address), min(load.address + load.file_bytes, section.end)
            if start < end:
                place = load.offset + start - load.address
                kept += end - start
                pages = range(place // chunks.PAGE, (place + end - start - 1) // chunks.PAGE + 1)
                used += len(touched.intersection(pages)) * chunks.PAGE
        found.append((section.name, kept, used))
    return sorted(found, key=lambda row: -row[1])[:SECTIONS]


def main(argv: list[str] | None = None) -> int:
    """Print both tables. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.reading", description=__doc__.splitlines()[0])
    parser.parse_args(argv)
    for program in ("strace", "cc"):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed. Next: install it")
    if not LAYER.is_dir():
        parser.error("there is no layer in build/layer. Next: make layer")
    print("| a start, calls | stock PyTorch | the layer |\n|---|--:|--:|")
    both = (operations(Path(sysconfig.get_path("purelib"))), operations(LAYER))
    for (title, _, _), stock, ours in zip(OPERATIONS, *both, strict=True):
        print(f"| {title} | {stock:,} | {ours:,} |")
    with tempfile.TemporaryDirectory(prefix="reading-") as scratch:
        audit = Path(scratch, "no_read_ahead.so")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(audit), str(SOURCE)], check=True)
        read = resident({})
        touched = resident({"LD_AUDIT": str(audit), "NO_READ_AHEAD_BELOW": str(LAYER)})
    print(
        "\n| a start reads of | MB | with reading ahead | touched | chunks | chunks if ordered |\n|---|--:|--:|--:|--:|--:|"
    )
    for name in FILES:
        path = LAYER / name
        pages = in_touched_runs(path, set(touched[name])) if path.suffix == ".so" else len(touched[name])
        sizes = (path.stat().st_size, *(len(each) * chunks.PAGE for each in (read[name], touched[name])))
        now = len({page * chunks.PAGE // CHUNK for page in touched[name]})
        cells = [*(f"{size / 1e6:.1f}" for size in sizes), str(now), str(-(-pages * chunks.PAGE // CHUNK))]
        print(f"| `{path.name}` | {' | '.join(cells)} |")
    print(f"\n| section of {Path(FILES[0]).name} | in the layer's file, MB | touched, MB |\n|---|--:|--:|")
    for title, kept, used in by_section(FILES[0], set(touched[FILES[0]])):
        print(f"| `{title}` | {kept / 1e6:.1f} | {used / 1e6:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
