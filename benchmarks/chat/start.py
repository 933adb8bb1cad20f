"""Where the processor's time of the chat example's start goes: `python -m benchmarks.chat.start`.

Each start is a process of its own, as in `make bench-chat`. The median of each part is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.chat.__main__ import RELEASE, commands
from lambda_torch import project

STARTS = 7


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat.start", description=__doc__)
    parser.add_argument("--release", type=Path, default=RELEASE, help="made by make bench-chat")
    parser.add_argument("--layer", type=Path, default=project.LAYER, help="used where it is built; else stock PyTorch")
    parser.add_argument("--starts", type=int, default=STARTS)
    options = parser.parse_args(argv)
    if not options.release.exists():
        raise SystemExit(f"There is no release in {options.release}. Next: make bench-chat, which makes it")
    command, variables = commands(1, options.release.resolve(), Path(), [], options.layer.resolve())["torch"]
    program = str(Path(__file__).with_name("parts.py"))
    command = [*command[: command.index("-s") + 1], program, str(options.release.resolve())]
    found: dict[str, list[float]] = {}
    for start in range(options.starts + 1):
        said = subprocess.run(
            command, env={**os.environ, **variables}, cwd=tempfile.gettempdir(), stdout=subprocess.PIPE, check=True
        ).stdout
        # The first one fills the page cache.
        for name, seconds in json.loads(said).items() if start else ():
            found.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(each) * 1e3 for name, each in found.items()}
    print("| part of the start | processor's time (ms) |\n|---|---|")
    for name, milliseconds in {**medians, "together": sum(medians.values())}.items():
        print(f"| {name} | {milliseconds:.0f} |")
    print(f"The machine's load is {os.getloadavg()[0]:.0f}.", file=sys.stderr)


if __name__ == "__main__":
    main()
