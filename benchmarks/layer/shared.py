"""Measures the memory that processes of one machine share: eight that keep a model, or train one; layer beside stock.

Lambda Managed Instances run one Python process for each concurrent request. The proportional set size (PSS, proc(5)) counts
a page that n processes share as 1/n in each, so the sum over all processes is what they take together. The program runs on
Linux, and needs `make layer`.

    python -m benchmarks.layer.shared
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

from lambda_torch import project

PROCESSES = 8
RESULT = project.BUILD / "bench" / "shared.json"
# 64 MB of weights, which load_file maps: the tensors stay pages of the file as long as nothing writes to them.
WEIGHTS_MB = 64
PROGRAM = """
import sys, torch
from safetensors.torch import load_file
weights = load_file(sys.argv[1])
with torch.inference_mode():
    total = sum(float(each.sum()) for each in weights.values())
    torch.nn.LSTM(64, 128)(torch.ones(10, 1, 64))
{more}
try:
    from torch_layer import pager
    print(pager.stats().bytes, flush=True)
except ImportError:
    print(0, flush=True)
sys.stdin.read()
"""
# What a process does beside its answer: much of what training needs is cold code.
PROGRAMS = {
    "an answer": "",
    "training": """
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten())
optimizer = torch.optim.Adam(model.parameters())
for _ in range(2):
    optimizer.zero_grad()
    model(torch.rand(4, 3, 16, 16)).square().mean().backward()
    optimizer.step()
""",
}


class Memory(NamedTuple):
    """Bytes of all processes together.

    Attributes:
        pss: proportional set sizes.
        rss: resident set sizes, which count shared pages in each process.
        private: pages that one process alone has.
        cold: code that the layer has decompressed, which is private to each process.
    """

    pss: int
    rss: int
    private: int
    cold: int


def of_process(process: int, cold: int) -> Memory:
    """The memory of one process (/proc/PID/smaps_rollup), which has decompressed so much code."""
    rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) for name, _, value in (row.partition(":") for row in rows)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return Memory(1024 * kilobytes["Pss"], 1024 * kilobytes["Rss"], 1024 * private, cold)


def measure(packages: list[Path], weights: Path, count: int, more: str) -> Memory:
    """So many processes at the same time, and their memory when each has answered once and run `more`."""
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, packages)), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-S", "-P", "-s", "-B", "-c", PROGRAM.format(more=more), str(weights)]
    processes = [
        subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        cold = []
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a process did not start; its last lines say why")
            cold.append(int(line))
        found = [of_process(process.pid, each) for process, each in zip(processes, cold, strict=True)]
    finally:
        for process in processes:
            process.communicate()
    return Memory(*(sum(column) for column in zip(*found, strict=True)))


def main() -> int:
    """Measure, print, and keep the figures in build/bench/shared.json."""
    stock = Path(sysconfig.get_path("purelib"))
    layer = project.LAYER / "python"
    if not layer.is_dir():
        print(f"{layer} does not exist. Next: make layer", file=sys.stderr)
        return 1
    rows: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="shared-") as folder:
        weights = Path(folder, "weights.safetensors")
        save_file({f"w{number}": torch.rand(1024, 1024) for number in range(WEIGHTS_MB // 4)}, weights)
        # safetensors is the function's, so it comes from this environment for both.
        for name, packages in (("stock", [stock]), ("layer", [layer, stock])):
            for count in (1, PROCESSES):
                for program, more in PROGRAMS.items():
                    rows[f"{program}, {name}, {count}"] = measure(packages, weights, count, more)._asdict()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{'':22}{'PSS MB':>10}{'RSS MB':>10}{'private MB':>12}{'cold code MB':>14}")
    for name, row in sorted(rows.items()):
        figures = "".join(
            f"{row[column] / 1e6:{width}.0f}" for column, width in (("pss", 10), ("rss", 10), ("private", 12))
        )
        print(f"{name:22}{figures}{row['cold'] / 1e6:14.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
