"""Measures what was tried to load the libraries faster: `python -m benchmarks.layer.native` (needs `make layer`).

Each row is the built layer with one change. New processes import torch and run the forward pass of an LSTM, in turns
with all other rows. The table has medians of CPU seconds and of peak memory, and the ratio of the CPU seconds to the
layer as it is. Changes that are about reading are measured a second time with the page cache dropped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.layer.measure import Start, drop_page_cache, start

LAYER = Path(__file__).resolve().parents[2] / "build" / "layer" / "python"


class Variant(NamedTuple):
    """One change of the layer.

    Attributes:
        title: the name of the row.
        prelude: Python that runs before torch is imported.
        variables: additions to the environment.
        is_about_reading: whether it is also measured with the page cache dropped.
    """

    title: str
    prelude: str = ""
    variables: dict[str, str] = {}  # noqa: RUF012 -- never changed
    is_about_reading: bool = False


_LIBRARIES = f"""
import glob, os
libraries = [name for name in glob.glob({str(LAYER)!r} + "/torch/lib/*.so") if os.path.getsize(name) > 1 << 20]
"""
VARIANTS = (
    Variant("the layer as it is", is_about_reading=True),
    Variant("every function looked up at load (LD_BIND_NOW)", variables={"LD_BIND_NOW": "1"}),
    Variant("no search for plugins", variables={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}),
    Variant(
        "what only loading needs kept in memory",
        "import torch_layer.pager; torch_layer.pager.trim = lambda: None",
    ),
    Variant(
        "the heap in huge pages (mallopt, MADV_HUGEPAGE)",
        """
import ctypes
libc = ctypes.CDLL(None)
libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
libc.sbrk.argtypes, libc.madvise.argtypes = [ctypes.c_long], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
huge = 2 << 20
libc.mallopt(-2, 80 << 20)  # M_TOP_PAD
libc.mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD
begin = libc.sbrk(0)
while libc.sbrk(0) == begin:
    libc.malloc(100_000)
begin = -(-begin // huge) * huge
libc.madvise(begin, (libc.sbrk(0) - begin) // huge * huge, 14)  # MADV_HUGEPAGE
""",
    ),
    Variant(
        "whole libraries read ahead (posix_fadvise)",
        _LIBRARIES
        + """
for name in libraries:
    file = os.open(name, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
    os.close(file)
""",
        is_about_reading=True,
    ),
)


def options_of(module: str, description: str, argv: list[str] | None) -> argparse.Namespace | None:
    """How many starts to measure; None, with a message, if there is no layer."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--runs", type=int, default=15, help="starts for each row (default: %(default)s)")
    parser.add_argument("--cold-runs", type=int, default=5, help="the same, page cache dropped (default: %(default)s)")
    options = parser.parse_args(argv)
    if not LAYER.is_dir():
        print("There is no layer in build/layer. Next: make layer", file=sys.stderr)
        return None
    return options


def main(argv: list[str] | None = None) -> int:
    """Print both tables. Returns the exit status."""
    options = options_of("benchmarks.layer.native", __doc__, argv)
    if options is None:
        return 1
    warm = _starts(VARIANTS, options.runs)
    print("| | CPU, s | ratio | peak memory, MB |\n|---|---|---|---|")
    base = median(each.cpu_seconds for each in warm[VARIANTS[0].title])
    for title, starts in warm.items():
        cpu = median(each.cpu_seconds for each in starts)
        peak = median(each.peak_bytes for each in starts)
        print(f"| {title} | {cpu:.3f} | {cpu / base:.2f} | {peak / 1e6:.0f} |")
    if reason := drop_page_cache():
        print(reason, file=sys.stderr)
        return 0
    reading = [each for each in VARIANTS if each.is_about_reading]
    cold = _starts(reading, options.cold_runs, drop=True)
    print("\n| page cache dropped | wall, s | ratio | read from storage, MB |\n|---|---|---|---|")
    base = median(each.wall_seconds for each in cold[reading[0].title])
    for title, starts in cold.items():
        wall = median(each.wall_seconds for each in starts)
        print(f"| {title} | {wall:.3f} | {wall / base:.2f} | {median(each.read_bytes for each in starts) / 1e6:.0f} |")
    return 0


def _starts(variants: tuple[Variant, ...] | list[Variant], runs: int, *, drop: bool = False) -> dict[str, list[Start]]:
    found: dict[str, list[Start]] = {each.title: [] for each in variants}
    for number in range(runs + 1):
        print(f"  round {number} of {runs}", file=sys.stderr, flush=True)
        for each in variants:
            if drop:
                drop_page_cache()
            result = start(LAYER, each.prelude, each.variables)
            if number:  # the first round fills the page cache
                found[each.title].append(result)
    return found


if __name__ == "__main__":
    sys.exit(main())
