"""Run the checks, each in a forked child; see `python -m builder.cold_checks --help`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from builder.cold_checks import CHECKS
from builder.outputs import write_outputs
from builder.workload import Group, run_groups


def _child(check: Group, folder: Path) -> None:
    """Run `check`, leave its outputs or its traceback in `folder`, and end the process."""
    status, start = 1, time.process_time()
    try:
        write_outputs(folder / f"{check.name}.safetensors", run_groups([check]), {"torch": torch.__version__})
        sys.stdout.write(f"{check.name}: {time.process_time() - start:.1f} s of CPU\n")
        status = 0
    except BaseException:
        (folder / f"{check.name}.error").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the parent's exit handlers belong to the parent


def _finish(running: dict[int, str], folder: Path, errors: dict[str, str]) -> None:
    """Wait for one child and note how it ended."""
    process, status = os.wait()
    name = running.pop(process, "")
    if not name or status == 0:
        return
    if os.WIFSIGNALED(status):
        errors[name] = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    else:
        file = folder / f"{name}.error"
        errors[name] = file.read_text() if file.exists() else f"ended with status {os.waitstatus_to_exitcode(status)}"


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every check passed and 1 when one failed; `errors.json` in the folder says why."""
    parser = argparse.ArgumentParser(prog="python -m builder.cold_checks", description="Try torch's less used half.")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for one safetensors file a check and errors.json"
    )
    parser.add_argument(
        "--check", action="append", choices=[check.name for check in CHECKS], help="only this (repeatable)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="checks at a time (default: 2)")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    running: dict[int, str] = {}
    errors: dict[str, str] = {}
    for check in CHECKS:
        if arguments.check and check.name not in arguments.check:
            continue
        while len(running) >= arguments.jobs:
            _finish(running, arguments.output, errors)
        process = os.fork()
        if process == 0:
            _child(check, arguments.output)
        running[process] = check.name
    while running:
        _finish(running, arguments.output, errors)
    (arguments.output / "errors.json").write_text(json.dumps(errors, indent=1))
    sys.stderr.writelines(f"{name}: {text}\n" for name, text in errors.items())
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
