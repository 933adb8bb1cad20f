"""Tokens per second and first tokens of the chat example beside llama.cpp: `make bench-chat`.

Both read the same prompt and write the same number of tokens, greedily, with the same number of threads, each in a control group
with the memory and the processor time that Lambda gives at a memory size, as in a test box: one thread at 1,769 MB, which is one
processor, and two threads at 3,008 MB, which are 1.7 processors. They take turns in every round, so a machine that slows down
slows both. What is reported is the median over the rounds, and each ratio is the median of the rounds' ratios.
"""

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from examples.chat.make_release import fetch
from examples.chat.model.config import VOCABULARY_FILE, read_config
from examples.chat.model.tokenizer import Tokenizer

from benchmarks.load.local import overhead
from benchmarks.load.served import talking
from lambda_torch import project, testbox
from lambda_torch.testbox.limits import Limits

HERE = Path(__file__).resolve().parent
LLAMA = project.BUILD / "llama-venv"
RELEASE = project.BUILD / "releases" / "chat"
OUTPUT = project.BUILD / "bench" / "chat.json"
PROMPT_TOKENS, NEW_TOKENS = 32, 128
ROUNDS, STARTS = 9, 7
TEXT = (
    "The lighthouse keeper wrote down the weather every morning. On the first day of the storm the waves were higher than "
    "the rocks, and the lamp went out three times before he came down to the harbour."
)
# Threads by the memory size in MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
THREADS = {1769: 1, 3008: 2}


@dataclass
class Found:
    """What was measured of one contender with one number of threads: seconds, one entry a round or a start."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    prefill_cpu: list[float] = field(default_factory=list)
    decode_cpu: list[float] = field(default_factory=list)
    cold_cpu: list[float] = field(default_factory=list)


class Process:
    """A contender in a process of its own, as a context manager."""

    def __init__(self, command: list[str], variables: dict[str, str], memory: int) -> None:
        self._stack = ExitStack()
        try:
            limits = self._stack.enter_context(Limits(memory))
            begin = time.perf_counter()
            self._process = subprocess.Popen(
                [*limits.joining(), *command],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=tempfile.gettempdir(),
            )
            self._stack.callback(self._process.communicate)
            first = self._read()
            self.cold_seconds = time.perf_counter() - begin
            self.cold_cpu_seconds: float = first["cpu_s"]
        except BaseException:
            self._stack.close()
            raise

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args!r} ended with {self._process.wait()}; what it said is above")
        found: dict[str, Any] = json.loads(line)
        return found

    def measure(self) -> dict[str, Any]:
        """One round."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it: it reads the end of its input."""
        self._stack.close()


def commands(threads: int, release: Path, gguf: Path, prompt: list[int], layer: Path) -> dict[str, Any]:
    """How each contender is started: its command and its environment."""
    numbers = [str(threads), str(NEW_TOKENS), ",".join(map(str, prompt))]
    packages = sysconfig.get_path("purelib")
    # As on Lambda: the layer comes first, and no .pth file is read.
    path = [
        *([str(layer / "python")] if _is_layer(layer) else []),
        str(project.ROOT),
        str(project.ROOT / "tools"),
        packages,
    ]
    omp = {"OMP_NUM_THREADS": str(threads)}
    ours = [sys.executable, "-S", "-P", "-s", str(HERE / "by_torch.py"), str(release), *numbers]
    theirs = [str(LLAMA / "bin" / "python"), "-P", "-s", str(HERE / "by_llama.py"), str(gguf), *numbers]
    return {
        "torch": (ours, {**omp, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}),
        "llama.cpp": (theirs, {**omp, "PYTHONPATH": ""}),
    }


def _is_layer(layer: Path) -> bool:
    return (layer / "python" / "torch").is_dir()


def _measured(commands: dict[str, Any], rounds: int, starts: int, memory: int) -> dict[str, Found]:
    found = {name: Found() for name in commands}
    title = f"{memory:,} MB"
    # The first start fills the page cache, and the first round the processor's; neither is counted.
    for start in range(starts + 1):
        for name, (command, variables) in commands.items():
            with Process(command, variables, memory) as process:
                if start:
                    found[name].cold.append(process.cold_seconds)
                    found[name].cold_cpu.append(process.cold_cpu_seconds)
        _say(f"  {title}: start {start} of {starts}")
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process(command, variables, memory))
            for name, (command, variables) in commands.items()
        }
        for number in range(rounds + 1):
            for name, process in processes.items():
                # The other one's threads wait for work by spinning for a while.
                time.sleep(0.3)
                one = process.measure()
                if number:
                    found[name].prefill.append(one["prefill_s"])
                    found[name].decode.append(one["decode_s"])
                    found[name].prefill_cpu.append(one["prefill_cpu_s"])
                    found[name].decode_cpu.append(one["decode_cpu_s"])
            _say(f"  {title}: round {number} of {rounds}")
    return found


def ratios(found: dict[str, Found]) -> dict[str, float]:
    """Ours to llama.cpp's: of tokens per second for decode and prefill (more is better), of seconds for the others (less is)."""

    def median(one: list[float], other: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 3)

    ours, theirs = found["torch"], found["llama.cpp"]
    return {
        "decode_ratio": median(theirs.decode, ours.decode),
        "prefill_ratio": median(theirs.prefill, ours.prefill),
        # The first token of a process that is warm: the prompt is read, and one token chosen.
        "first_token_ratio": median(ours.prefill, theirs.prefill),
        "cold_ratio": median(ours.cold, theirs.cold),
        # The same of the processor's seconds, which other work on the machine changes less.
        "decode_cpu_ratio": median(theirs.decode_cpu, ours.decode_cpu),
        "prefill_cpu_ratio": median(theirs.prefill_cpu, ours.prefill_cpu),
        "cold_cpu_ratio": median(ours.cold_cpu, theirs.cold_cpu),
    }


def _figures(found: Found) -> dict[str, float]:
    return {
        "prompt_tokens_per_second": round(PROMPT_TOKENS / statistics.median(found.prefill), 1),
        "new_tokens_per_second": round(NEW_TOKENS / statistics.median(found.decode), 1),
        "first_token_ms": round(statistics.median(found.prefill) * 1e3, 1),
        "cold_start_to_first_token_ms": round(statistics.median(found.cold) * 1e3),
        "cpu_ms_per_new_token": round(statistics.median(found.decode_cpu) / NEW_TOKENS * 1e3, 2),
        "cold_start_cpu_ms": round(statistics.median(found.cold_cpu) * 1e3),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat", description=__doc__)
    parser.add_argument("--release", type=Path, default=RELEASE, help="made if it is not there")
    parser.add_argument("--layer", type=Path, default=project.LAYER, help="used where it is built; else stock PyTorch")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--memory", type=int, action="append", choices=THREADS, help="MB; repeatable (default: both)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(argv)
    if reason := testbox.why_not():
        raise SystemExit(f"This benchmark needs Lambda's limits: {reason}")
    if not (LLAMA / "bin" / "python").exists():
        raise SystemExit(f"There is no llama.cpp in {LLAMA}. Next: make bench-chat, which compiles it")
    # As in the function's package, which has bytecode.
    compileall.compile_dir(project.ROOT / "examples" / "chat" / "model", quiet=1)
    if not options.release.exists():
        maker = project.ROOT / "examples" / "chat" / "make_release.py"
        subprocess.run([sys.executable, str(maker), "--output", str(options.release)], check=True, stdout=sys.stderr)
    prompt = Tokenizer.read(options.release / VOCABULARY_FILE).encode(TEXT)[:PROMPT_TOKENS]
    assert len(prompt) == PROMPT_TOKENS
    # A size that is not measured now keeps its last figures.
    settings: dict[str, Any] = _known(options.output) if options.memory else {}
    with tempfile.TemporaryDirectory(prefix="bench-chat-") as scratch:
        gguf = fetch(Path(scratch))
        for memory in options.memory or THREADS:
            both = commands(THREADS[memory], options.release.resolve(), gguf, prompt, options.layer.resolve())
            found = _measured(both, options.rounds, options.starts, memory)
            figures = {name: _figures(each) for name, each in found.items()}
            # On a busy machine threads that spin while they wait take the time that the others need.
            wait = os.environ.get("OMP_WAIT_POLICY", "active")
            conditions = {
                "threads": THREADS[memory],
                "rounds": options.rounds,
                "wait": wait,
                "load": os.getloadavg()[1],
            }
            settings[str(memory)] = {**conditions, **figures, "ratios": ratios(found)}
            settings = {size: settings[size] for size in sorted(settings, key=int)}
            # Written after each size, so that a run that is ended has what it found.
            _write(options, settings, {})
        _say("  from a piece in the model to a byte at the client")
        with talking(Path(scratch)) as served:
            found_overhead = overhead(served)
    _write(options, settings, found_overhead)
    print(table(settings))
    _say(f"written to {options.output}")


def _known(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))["settings"] if output.exists() else {}
    return found


def _write(options: argparse.Namespace, settings: dict[str, Any], pieces: dict[str, float]) -> None:
    report = {
        # The smallest size: the aims are for one request at 1,769 MB, which is one processor.
        **next(iter(settings.values()))["ratios"],
        # Milliseconds from a piece that a model makes to its bytes at a client of `lambda-torch serve`.
        **pieces,
        "settings": settings,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "weights": read_config(options.release).weights,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "torch": version("torch"),
            "layer": _is_layer(options.layer),
        },
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table(settings: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [
        ("prompt tokens per second", "prompt_tokens_per_second", "prefill_ratio"),
        ("new tokens per second", "new_tokens_per_second", "decode_ratio"),
        ("first token, warm (ms)", "first_token_ms", "first_token_ratio"),
        ("first token from process start (ms)", "cold_start_to_first_token_ms", "cold_ratio"),
        ("new token, processor time (ms)", "cpu_ms_per_new_token", "decode_cpu_ratio"),
        ("start, processor time (ms)", "cold_start_cpu_ms", "cold_cpu_ratio"),
    ]
    lines = ["| memory | | this example | llama.cpp | ratio |", "|---|---|---|---|---|"]
    for memory, found in settings.items():
        for title, name, ratio in rows:
            ours, theirs = found["torch"][name], found["llama.cpp"][name]
            lines.append(f"| {int(memory):,} MB | {title} | {ours:,} | {theirs:,} | {found['ratios'][ratio]} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
