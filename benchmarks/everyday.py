"""Measures everyday things that people do with torch: on the layer, and beside stock PyTorch.

`make bench-everyday`, or `python -m benchmarks.everyday`. Each task runs in a new process that has imported torch and has done
nothing else, on the layer and on stock PyTorch in turns. A row says whether the task completes the import (runs all held
modules), what completed it, the CPU seconds from the start of the process to its end, and the most memory that it had. All
figures are medians. `--layer FOLDER` measures another layer, and `--task TEXT` only the tasks with this text in their names.

The programs that tasks load are made once, with stock PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.layer.peers import stock
from lambda_torch import project

RESULT = project.BUILD / "bench" / "everyday.json"


class Task(NamedTuple):
    """Something that people do: its name, and the Python statements, which have `torch`, `nn`, `F` and `folder`."""

    name: str
    program: str


# What a task may load.
MAKE = """
net = nn.Linear(3, 4).eval()
torch.save(net.state_dict(), f"{folder}/weights.pt")
torch.jit.trace(net, torch.ones(2, 3)).save(f"{folder}/script.pt")
torch.export.save(torch.export.export(net, (torch.ones(2, 3),)), f"{folder}/program.pt2")
"""
TASKS = (
    Task("a linear layer", "nn.Linear(3, 4)(torch.ones(2, 3))"),
    Task("torch.load of a state dict", "torch.load(f'{folder}/weights.pt')"),
    Task("torch.load, mapped into memory", "torch.load(f'{folder}/weights.pt', mmap=True)"),
    Task("torch.save", "torch.save(nn.Linear(3, 4).state_dict(), f'{folder}/saved.pt')"),
    Task("torch.jit.load, and a call", "torch.jit.load(f'{folder}/script.pt')(torch.ones(2, 3))"),
    Task("torch.export.load, and a call", "torch.export.load(f'{folder}/program.pt2').module()(torch.ones(2, 3))"),
    Task("model.half()", "nn.Linear(3, 4).half()"),
    Task(
        "model.to(bfloat16), and a call", "nn.Linear(3, 4).to(torch.bfloat16)(torch.ones(2, 3, dtype=torch.bfloat16))"
    ),
    Task(
        "dynamic quantisation",
        "torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 4)), {nn.Linear})(torch.ones(2, 3))",
    ),
    Task("inference_mode", "with torch.inference_mode():\n    nn.Linear(3, 4)(torch.ones(2, 3))"),
    Task("autocast", "with torch.autocast('cpu', torch.bfloat16):\n    nn.Linear(3, 4)(torch.ones(1, 3))"),
    Task("a forward hook", "net = nn.Linear(3, 4)\nnet.register_forward_hook(lambda *_: None)\nnet(torch.ones(2, 3))"),
    Task("deepcopy of a model", "import copy\ncopy.deepcopy(nn.Sequential(nn.Linear(3, 4)))"),
    Task(
        "DataLoader, no workers",
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "list(DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2))",
    ),
    Task("an LSTM", "nn.LSTM(3, 4)(torch.ones(2, 1, 3))"),
    Task("a convolution", "nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 8, 8))"),
    Task("resize a picture", "F.interpolate(torch.ones(1, 3, 8, 8), size=(4, 4), mode='bilinear')"),
    Task(
        "a transformer with a padding mask",
        "net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 1).eval()\n"
        "net(torch.ones(1, 4, 8), src_key_padding_mask=torch.tensor([[False, False, True, True]]))",
    ),
    Task("attention", "F.scaled_dot_product_attention(*[torch.ones(1, 2, 4, 8)] * 3, is_causal=True)"),
    Task(
        "attention with a chosen kernel",
        "from torch.nn.attention import SDPBackend, sdpa_kernel\n"
        "with sdpa_kernel(SDPBackend.MATH):\n    F.scaled_dot_product_attention(*[torch.ones(1, 2, 4, 8)] * 3)",
    ),
    Task("sample a token", "torch.multinomial(torch.softmax(torch.ones(10), -1), 1)"),
    Task(
        "beam search",
        "scores = torch.ones(3, 50).log_softmax(-1)\nbest = scores.view(-1).topk(3).indices\nscores[best // 50]",
    ),
    Task("torch.distributions", "torch.distributions.Categorical(logits=torch.ones(4)).sample()"),
    Task("torch.fft", "torch.fft.rfft(torch.ones(8))"),
    Task("a spectrogram", "torch.stft(torch.ones(400), 100, return_complex=True, window=torch.hann_window(100))"),
    Task("torch.linalg", "torch.linalg.inv(torch.eye(3))"),
    Task("numpy in and out", "import numpy\ntorch.from_numpy(numpy.ones(3)).numpy()"),
    Task("weight_norm", "nn.utils.weight_norm(nn.Linear(3, 4))(torch.ones(1, 3))"),
    Task("parametrizations.weight_norm", "nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))(torch.ones(1, 3))"),
    Task("a default device", "torch.set_default_device('cpu')\ntorch.ones(2)"),
    Task("a model on the meta device", "with torch.device('meta'):\n    nn.Linear(3, 4)"),
    Task("a gradient", "x = torch.ones(3, requires_grad=True)\n(x * x).sum().backward()"),
    Task(
        "a step of AdamW",
        "net = nn.Linear(3, 4)\noptimizer = torch.optim.AdamW(net.parameters())\n"
        "net(torch.ones(2, 3)).sum().backward()\noptimizer.step()",
    ),
    Task("torch.export.export", "torch.export.export(nn.Linear(3, 4), (torch.ones(2, 3),))"),
    Task("torch.compile, no inductor", "torch.compile(nn.Linear(3, 4), backend='eager')(torch.ones(2, 3))"),
    Task("torch.vmap", "torch.vmap(lambda x: x * 2)(torch.ones(3, 2))"),
    Task("torch.jit.script", "torch.jit.script(nn.Linear(3, 4))"),
    Task(
        "everything that stock imports",
        "if 'torch_layer' in sys.modules:\n    sys.modules['torch_layer.finder'].complete_imports()",
    ),
)
_PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
folder = {folder!r}
import torch
from torch import nn
import torch.nn.functional as F
{task}
finder = sys.modules.get("torch_layer.finder")
stats = finder.imports() if finder else None
import json
used = os.times()
import resource
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([used.user + used.system, peak, bool(stats and stats.complete), stats.reason if stats else ""]))
"""


class Run(NamedTuple):
    """One run of a task.

    Attributes:
        cpu_seconds: from the start of the process.
        peak_bytes: of resident memory.
        completes: whether the task completed the import.
        reason: what completed it, if anything did.
    """

    cpu_seconds: float
    peak_bytes: int
    completes: bool
    reason: str


class Row(NamedTuple):
    """What was measured of a task."""

    task: str
    stock_cpu_s: float
    layer_cpu_s: float
    ratio: float
    peak_ratio: float
    completed_by: str  # empty where the task leaves modules waiting


def run(tree: Path, task: str, folder: str) -> Run:
    """Run a task in a new process that has only `tree` on its path. Raises SystemExit if it fails."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",  # /opt is read-only
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-S", "-P", "-s", "-c", _PROGRAM.format(folder=folder, task=task)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a task failed on {tree}:\n{task}\n{done.stderr[-2000:]}")
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def measure(trees: dict[str, Path], runs: int, folder: str, tasks: Sequence[Task] = TASKS) -> list[Row]:
    """A row for each task."""
    rows = []
    for number, task in enumerate(tasks, 1):
        print(f"  {number} of {len(tasks)}: {task.name}", file=sys.stderr, flush=True)
        taken: dict[str, list[Run]] = {name: [] for name in trees}
        for _ in range(runs):
            for name, tree in trees.items():
                taken[name].append(run(tree, task.program, folder))
        seconds = {name: median(each.cpu_seconds for each in runs) for name, runs in taken.items()}
        pairs = list(zip(*taken.values(), strict=True))
        ratio = median(ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs)
        peak_ratio = median(ours.peak_bytes / theirs.peak_bytes for ours, theirs in pairs)
        rows.append(
            Row(
                task.name,
                round(seconds["stock"], 2),
                round(seconds["layer"], 2),
                round(ratio, 2),
                round(peak_ratio, 2),
                taken["layer"][0].reason,
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| task | stock, CPU s | layer, CPU s | ratio | peak memory, ratio | completes the import |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        by = f"yes, by `{row.completed_by}`" if row.completed_by else "no"
        figures = f"{row.stock_cpu_s:.2f} | {row.layer_cpu_s:.2f} | {row.ratio:.2f} | {row.peak_ratio:.2f}"
        lines.append(f"| {row.task} | {figures} | {by} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table and write build/bench/everyday.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.everyday", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3, help="of each task and candidate (default: %(default)s)")
    parser.add_argument(
        "--layer", type=Path, default=project.BUILD / "layer" / "python", help="its folder (default: %(default)s)"
    )
    parser.add_argument("--task", default="", help="a part of the names of the tasks to run (default: all tasks)")
    arguments = parser.parse_args()
    if not arguments.layer.is_dir():
        raise SystemExit(f"There is no layer in {arguments.layer}. Next: make layer")
    tasks = [task for task in TASKS if arguments.task in task.name]
    if not tasks:
        parser.error(f'no task has "{arguments.task}" in its name')
    import torch

    with tempfile.TemporaryDirectory(prefix="everyday-") as folder:
        tree = Path(folder, "stock")
        tree.mkdir()
        print("Copying stock PyTorch, and compiling it", file=sys.stderr)
        stock(Path(torch.__file__).parents[1], tree)
        run(tree, MAKE, folder)
        rows = measure({"layer": arguments.layer.resolve(), "stock": tree}, arguments.runs, folder, tasks)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "torch": version("torch"),
        "python": platform.python_version(),
        "runs": arguments.runs,
        "rows": [row._asdict() for row in rows],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
