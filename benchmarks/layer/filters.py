"""Measures the branch filters: `python -m benchmarks.layer.filters LIBRARY ...` (whole libraries, as their wheels have them).

Each row is a library's code, cut into the layer's usual blocks: how many bytes they have at the layer's compression level without
the filter for its processors, and with it. A part of the blocks is compressed, spread evenly. The layer also compresses larger
blocks, and leaves hot pages out, so a row says what the filter is worth and not what the layer has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from builder.native.elf import SharedLibrary
from builder.native.page_set import PAGE_BYTES
from builder.native.side_file import compressor
from builder.native.split import FILTERS

LEVEL, BLOCK_BYTES = 19, 262144


def sample(library: SharedLibrary, every: int) -> list[tuple[int, bytes]]:
    """Address and bytes of each `every`-th block of a library's code."""
    text = next(section for section in library.sections if section.name == ".text")
    first = -(-text.address // PAGE_BYTES) * PAGE_BYTES
    starts = range(first, text.end - BLOCK_BYTES, BLOCK_BYTES * every)
    return [(start, library.at(start, BLOCK_BYTES)) for start in starts]


def row(path: Path, every: int) -> str:
    """A library's row of the table."""
    library = SharedLibrary.read(path)
    parts, tool = sample(library, every), compressor(LEVEL)
    plain = sum(len(tool.compress(part)) for _, part in parts)
    filtered = sum(len(tool.compress(FILTERS[library.machine].encode(part, start))) for start, part in parts)
    measured = f"{BLOCK_BYTES * len(parts) / 1e6:.1f} | {plain / 1e6:.2f} | {filtered / 1e6:.2f}"
    return f"| {path.name} | {library.machine} | {measured} | {100 * (1 - filtered / plain):.1f} % |"


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.filters", description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path, nargs="+", help="a library as its wheel has it")
    parser.add_argument(
        "--every", type=int, default=16, help="compress each block of this number only (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    print("| library | processors | code, MB | compressed, MB | with the filter, MB | saved |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for path in arguments.library:
        print(row(path, arguments.every), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
