"""The whole list: packages, the trial in a process of its own, and sizes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lambda_torch.checking import sizes
from lambda_torch.checking.ticks import NAMES, Tick
from lambda_torch.errors import PackagesError
from lambda_torch.packages import local
from lambda_torch.packages.local import Report

_OF_TRIAL = [name for name in NAMES if name not in ("packages", "size")]


def ticks(folder: Path, release: Path, memory_mb: int, storage_mb: int, report: Report) -> Iterator[Tick]:
    """Check a model.

    Args:
        folder: the folder with the package `model`.
        release: its release folder.
        memory_mb: the function's memory.
        storage_mb: the size of the function's /tmp.
        report: called with one sentence before pip works.
    """
    try:
        packages, of_layer = local.installed(folder, report), local.of_layer(report)
    except PackagesError as error:
        cause, _, following = str(error).partition("\nNext: ")
        yield Tick("packages", "failed", cause, following)
        yield from (Tick(name, "skipped", "packages come first") for name in NAMES if name != "packages")
        return
    absent = local.missing(folder, packages, of_layer)
    if absent:
        causes = [str(each).partition(" Next: ") for each in absent]
        message, following = "\n".join(each[0] for each in causes), "; ".join(each[2].rstrip(".") for each in causes)
        yield Tick("packages", "failed", message, following)
    else:
        own = "its own are installed from requirements.txt" if packages else "it needs none of its own"
        yield Tick("packages", "ok", own)
    for tick in _trial(folder, release, [each for each in (packages, of_layer) if each is not None]):
        if tick.name == "memory" and tick.state == "ok":
            yield _memory(int(tick.message), release, memory_mb, storage_mb)
        else:
            yield tick
    yield sizes.tick(folder, packages)


def _trial(folder: Path, release: Path, packages: list[Path]) -> Iterator[Tick]:
    """The ticks of the process that runs the model. If it ends early, the check at which it ended fails."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "ticks"
        command = [sys.executable, "-m", "lambda_torch.checking.trial", "--folder", str(folder)]
        command += ["--release", str(release), "--output", str(output)]
        command += ["--packages", *map(str, packages)] if packages else []
        tools = str(Path(__file__).parents[2])
        # One thread, as a function of up to 1,769 MB has one processor: the answers do not depend on this machine's load.
        environment = {**os.environ, "PYTHONPATH": tools, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = output.read_text(encoding="utf-8").splitlines() if output.is_file() else []
    seen = [Tick(**json.loads(line)) for line in lines]
    yield from seen
    left = _OF_TRIAL[len(seen) :]
    if left:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        yield Tick(
            left[0],
            "failed",
            f"the process that ran the model ended here, with {how}{f':{chr(10)}{said}' if said else ''}",
            "look for code that ends the process: a crash in a library, sys.exit, or too little memory on this machine",
        )
        yield from (Tick(name, "skipped", f"{left[0]} comes first") for name in left[1:])


def _memory(peak: int, release: Path, memory_mb: int, storage_mb: int) -> Tick:
    from lambda_torch.releases.fitting import StackSizes

    size = sum(path.stat().st_size for path in release.rglob("*") if path.is_file())
    message = f"{peak / 1e6:.0f} MB at most, of the function's {memory_mb} MB; release {size / 1e6:.1f} MB"
    good = Tick("memory", "ok", message)
    if peak > memory_mb * 1024 * 1024:
        return replace(good, state="failed", next=f"set MemorySize to {-(-peak // 2**20)} or more in samconfig.toml")
    found = StackSizes(memory_mb, storage_mb).problems(size, size)
    if found:
        cause, _, following = found[0].partition(" Next: ")
        return replace(good, state="failed", message=f"{message}. {cause}", next=following)
    return good
