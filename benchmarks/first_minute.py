"""Measures the first minute: `make serve` from a bare clone to the first answer, before and after it was shortened.

    python -m benchmarks.first_minute                      # this commit, and the one before the change
    python -m benchmarks.first_minute --before COMMIT --rounds 3

Each round clones both commits into an empty folder, runs `make serve`, and sends the README's request until it is
answered. No package comes from a cache of pip or uv, so the time includes all downloads. The figures depend on the
network. They are in build/bench/first_minute.json: the seconds to the first answer, each line of output with its time,
and the longest time without any output.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from lambda_torch import project
from lambda_torch.emulator.processes import free_port

RESULT = project.BUILD / "bench" / "first_minute.json"
# The last commit where `make serve` installed everything and trained the sample model.
BEFORE = "184f8f4"
REQUEST = b'{"category":"Russian","start_letters":"RUS"}'
PATIENCE_SECONDS = 1800
ROUNDS = 1


def clone(commit: str, folder: Path) -> None:
    """A bare clone of the repository at a commit, as `git clone` makes it."""
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(project.ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)


class Output(threading.Thread):
    """Reads the output of a process, and notes when it came."""

    def __init__(self, process: "subprocess.Popen[bytes]", began: float) -> None:
        super().__init__(name="output of make serve")
        self.lines: list[tuple[float, str]] = []
        self.times: list[float] = []
        self._text = b""
        self._process, self._began = process, began

    def run(self) -> None:
        """Read until the end."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while chunk := os.read(descriptor, 65_536):
            self.times.append(time.monotonic() - self._began)
            for line in chunk.splitlines(keepends=True):
                self._text += line
                if line.endswith(b"\n"):
                    self.lines.append((round(self.times[-1], 1), self._text.decode(errors="replace").rstrip()))
                    self._text = b""


def first_answer(folder: Path) -> dict[str, Any]:
    """Run `make serve` in a clone, and stop it after the first answer."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CACHE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", "serve", f"PORT={port}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output = Output(process, began)
    output.start()
    try:
        seconds = wait(process, output, f"http://127.0.0.1:{port}/predict", began)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        output.join()
        if process.stdout is not None:
            process.stdout.close()
    times = [0.0, *(at for at in output.times if at <= seconds), seconds]
    silent = max(later - earlier for earlier, later in itertools.pairwise(times))
    return {"seconds": round(seconds, 1), "longest_silence": round(silent, 1), "lines": output.lines}


def wait(process: "subprocess.Popen[bytes]", output: Output, url: str, began: float) -> float:
    """Seconds until the README's request is answered with 200."""
    while time.monotonic() - began < PATIENCE_SECONDS and process.poll() is None:
        try:
            with urllib.request.urlopen(url, REQUEST, timeout=60):
                return time.monotonic() - began
        except OSError:
            time.sleep(0.1)
    raise SystemExit("make serve gave no answer:\n" + "\n".join(line for _, line in output.lines[-20:]))


def main() -> None:
    """Measure both commits in turns, print a table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--after", default="HEAD", help="the commit to measure")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for _ in range(options.rounds):
        for name in found:
            folder = Path(tempfile.mkdtemp(prefix="first-minute-"))
            try:
                clone(getattr(options, name), folder / "lambda-torch")
                found[name].append(first_answer(folder / "lambda-torch"))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in ("seconds", "longest_silence")}
        for name, rounds in found.items()
    }
    print("| | to the first answer, s | longest time without output, s |\n|---|---|---|")
    for name, figures in middle.items():
        print(f"| {name} | {figures['seconds']:.0f} | {figures['longest_silence']:.0f} |")
    ratio = middle["after"]["seconds"] / middle["before"]["seconds"]
    print(f"| after / before | {ratio:.2f} | |")
    for at, line in found["after"][-1]["lines"]:
        print(f"{at:8.1f}  {line}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"ratio": round(ratio, 3), **middle, "rounds": found}, indent=1))


if __name__ == "__main__":
    main()
