"""Measures what a start would save if registrations waited: `python -m benchmarks.layer.waiting` (needs `make layer`).

Each row is a copy of the built layer. In its libtorch_cpu.so the loader calls an empty function instead of the static
initialisers of some source files, so kernels of these dispatch keys are never registered. New processes import torch
and run the forward pass of an LSTM, in turns with all other rows. The first row has every initialiser run at load, and
the last one is the layer as it is, in which some wait. The other rows are the most that a start could save. A row also
says how many operators would call another kernel than they should, without a word, because one stands in its place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.layer.initialisers import (
    GROUPS,
    LIBRARY,
    Group,
    Initialiser,
    initialisers_of,
    installed_library,
    without,
)
from benchmarks.layer.measure import Start, drop_page_cache, start
from benchmarks.layer.native import LAYER, options_of
from builder.python import archive_writer

TRACING, AUTOGRAD, VMAP, OTHERS = GROUPS[:4]
ROWS = (
    Group("nothing", ""),
    TRACING,
    VMAP,
    OTHERS,
    Group("these three", "|".join(each.files for each in (TRACING, VMAP, OTHERS))),
    AUTOGRAD,
    Group("all four", "|".join(each.files for each in GROUPS[:4])),
)
AS_IT_IS = "those that wait in the layer"
# Prints what the dispatcher calls, by operator and dispatch key. Nothing that waits may run by that.
TABLES = """
import json, re
from torch_layer import registrations
registrations.LateRegistrations.watch = lambda self: None
import torch
names, table = torch._C._dispatch_get_all_op_names(), torch._C._dispatch_dump_table
print(json.dumps({name: dict(re.findall(r"(?m)^(\\w+): (.*)$", table(name))) for name in names}))
"""
# The layer itself registers kernels for these two, from a file in its own folder.
OF_THE_LAYER = "torch_layer/"


def copy_without(layer: Path, tree: Path, files: str, initialisers: list[Initialiser]) -> int:
    """Make a tree of hard links to the layer, but for its libtorch_cpu.so; return how many initialisers that is without."""
    shutil.copytree(layer, tree, copy_function=os.link)
    library = tree / "torch" / "lib" / LIBRARY
    changed, taken = without(library.read_bytes(), files, initialisers)
    library.unlink()
    library.write_bytes(changed)
    library.chmod(0o755)
    return taken


def tables(tree: Path) -> dict[str, dict[str, str]]:
    """What the dispatcher calls in a new process, by operator and dispatch key; keys without a kernel are left out."""
    command = [sys.executable, "-S", "-P", "-s", "-c", TABLES]
    done = subprocess.run(command, env={"PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, check=True)
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def misled(expected: dict[str, dict[str, str]], actual: dict[str, dict[str, str]]) -> int:
    """The number of operators that have another kernel for a key than they should; no kernel is an error, and not counted."""
    return sum(
        any(kernel != expected[name].get(key) and OF_THE_LAYER not in kernel for key, kernel in table.items())
        for name, table in actual.items()
    )


def main(argv: list[str] | None = None) -> int:
    """Print both tables. Returns the exit status."""
    options = options_of("benchmarks.layer.waiting", __doc__.splitlines()[0], argv)
    if options is None:
        return 1
    initialisers = initialisers_of(installed_library())
    # Beside the layer: hard links do not go to another file system.
    with tempfile.TemporaryDirectory(prefix="waiting-", dir=LAYER.parents[1]) as scratch:
        trees = [Path(scratch, str(number)) for number in range(len(ROWS))]
        taken = [copy_without(LAYER, tree, row.files, initialisers) for tree, row in zip(trees, ROWS, strict=True)]
        in_plan = archive_writer.read_index(LAYER / "torch_layer" / "modules.cold").head["plans"]["torch"]
        trees.append(LAYER)
        taken.append(len(in_plan["registrations"].get("addresses", ())))
        titles = [*(row.title for row in ROWS), AS_IT_IS]
        expected = tables(trees[0])
        others = [misled(expected, tables(tree)) for tree in trees]
        warm = _starts(trees, options.runs)
        print("| without | initialisers | operators with another kernel | CPU, s | ratio | peak memory, MB |")
        print("|---|--:|--:|--:|--:|--:|")
        base = median(each.cpu_seconds for each in warm[0])
        for title, count, other, starts in zip(titles, taken, others, warm, strict=True):
            cpu, peak = median(each.cpu_seconds for each in starts), median(each.peak_bytes for each in starts)
            print(f"| {title} | {count} | {other} | {cpu:.3f} | {cpu / base:.2f} | {peak / 1e6:.0f} |")
        if not options.cold_runs:
            return 0
        if reason := drop_page_cache():
            print(reason, file=sys.stderr)
            return 0
        cold = _starts(trees, options.cold_runs, drop=True)
        print("\n| without, page cache dropped | wall, s | ratio | read from storage, MB |\n|---|---|---|---|")
        base = median(each.wall_seconds for each in cold[0])
        for title, starts in zip(titles, cold, strict=True):
            wall, read = median(each.wall_seconds for each in starts), median(each.read_bytes for each in starts)
            print(f"| {title} | {wall:.3f} | {wall / base:.2f} | {read / 1e6:.0f} |")
    return 0


def _starts(trees: list[Path], runs: int, *, drop: bool = False) -> list[list[Start]]:
    found: list[list[Start]] = [[] for _ in trees]
    for number in range(runs + 1):
        print(f"  round {number} of {runs}", file=sys.stderr, flush=True)
        for tree, starts in zip(trees, found, strict=True):
            if drop:
                drop_page_cache()
            result = start(tree, "")
            if number:  # the first round fills the page cache
                starts.append(result)
    return found


if __name__ == "__main__":
    sys.exit(main())
