"""Compares the memory of the layer with that of stock PyTorch, where few kernels are used, and where nearly all are.

`python -m benchmarks.layer.memory`. Cold code that came back is private memory of its process, whole blocks at a time. Stock
PyTorch's code is mapped from its files: the kernel can drop and share such pages. Each program runs in a new process, on both in
turns. All figures are medians, at the end of the program.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.layer.peers import stock
from lambda_torch import project

PROGRAMS = {
    "an LSTM": "with torch.inference_mode():\n    torch.nn.LSTM(64, 128)(torch.ones(10, 1, 64))",
    "two steps of training": """
net = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
optimizer = torch.optim.AdamW(net.parameters())
for _ in range(2):
    optimizer.zero_grad()
    net(torch.ones(2, 8, 64)).square().sum().backward()
    optimizer.step()
""",
    "every function of tensors, in four types": """
for name in dir(torch._C._VariableFunctions):
    if name.startswith("_"):
        continue
    function = getattr(torch._C._VariableFunctions, name)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64):
        for count in (1, 2, 3):
            try:
                function(*[torch.ones(4, 4, dtype=dtype)] * count)
            except Exception:
                pass
""",
}
_PROGRAM = """
import warnings
warnings.simplefilter("ignore")
import torch
{program}
import json, sys
values = dict(line.split(":", 1) for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
kilobytes = lambda name: int(values[name].split()[0]) * 1024
layer = sys.modules.get("torch_layer.finder")
paged = sys.modules["torch_layer.pager"].stats().bytes if layer else 0
print(json.dumps([kilobytes("Rss"), kilobytes("Anonymous"), paged]))
"""


class Memory(NamedTuple):
    """What a process holds at its end, in bytes.

    Attributes:
        resident: all of it.
        anonymous: what no file stands behind, so that the kernel cannot drop it.
        paged: of this, cold code that came back.
    """

    resident: int
    anonymous: int
    paged: int


def run(tree: Path, program: str) -> Memory:
    """Run a program in a new process that has only `tree` on its path. Raises SystemExit if it fails."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # /opt is read-only
    command = [sys.executable, "-S", "-P", "-s", "-c", _PROGRAM.format(program=program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a program failed on {tree}:\n{done.stderr[-2000:]}")
    return Memory(*json.loads(done.stdout.splitlines()[-1]))


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.memory", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3, help="of each program (default: %(default)s)")
    parser.add_argument(
        "--layer", type=Path, default=project.BUILD / "layer" / "python", help="its folder (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if not arguments.layer.is_dir():
        raise SystemExit(f"There is no layer in {arguments.layer}. Next: make layer")
    import torch

    print("| program | stock, MB | layer, MB | ratio | stock, anonymous | layer, anonymous | of this, cold code |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        theirs = Path(name, "stock")
        theirs.mkdir()
        stock(Path(torch.__file__).parents[1], theirs)
        trees = {"stock": theirs, "layer": arguments.layer.resolve()}
        for title, program in PROGRAMS.items():
            taken: dict[str, list[Memory]] = {each: [] for each in trees}
            for _ in range(arguments.runs):
                for each, tree in trees.items():
                    taken[each].append(run(tree, program))
            one, other = (Memory(*(int(median(values)) for values in zip(*taken[each], strict=True))) for each in trees)
            figures = [one.resident / 1e6, other.resident / 1e6]
            parts = [one.anonymous / 1e6, other.anonymous / 1e6, other.paged / 1e6]
            cells = [
                *(f"{each:.0f}" for each in figures),
                f"{figures[1] / figures[0]:.2f}",
                *(f"{each:.0f}" for each in parts),
            ]
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
