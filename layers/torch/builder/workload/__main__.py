"""Run the workload and write its outputs; see `python -m builder.workload --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from builder.outputs import write_outputs
from builder.workload import GROUPS, run


def main(argv: list[str] | None = None) -> int:
    """Return 0 if every group ran. An exception of a group is not caught, so that its traceback is seen."""
    parser = argparse.ArgumentParser(
        prog="python -m builder.workload", description="Run the layer's inference workload."
    )
    parser.add_argument("--output", type=Path, help="write every output to this safetensors file")
    parser.add_argument(
        "--group", action="append", choices=[group.name for group in GROUPS], help="only this (repeatable)"
    )
    parser.add_argument("--list", action="store_true", help="list the groups, each with its reason, and stop")
    arguments = parser.parse_args(argv)
    if arguments.list:
        width = max(len(group.name) for group in GROUPS)
        sys.stdout.writelines(f"{group.name:<{width}}  {group.reason}\n" for group in GROUPS)
        return 0
    results = run(arguments.group)
    if arguments.output:
        capability = torch.backends.cpu.get_cpu_capability()
        write_outputs(arguments.output, results, {"torch": torch.__version__, "cpu_capability": capability})
    return 0


if __name__ == "__main__":
    sys.exit(main())
