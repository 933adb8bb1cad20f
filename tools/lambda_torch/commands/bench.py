"""`lambda-torch bench`: the benchmarks that people ask for, each a program in benchmarks/."""

import subprocess
import sys
from pathlib import Path

import click

from lambda_torch import project


@click.group()
def command() -> None:
    """Measure the function beside other ways to serve PyTorch on Lambda."""


@command.command()
@click.option("--runs", type=click.IntRange(2), help="Counted starts of each way, at each setting. Default: 7.")
@click.option(
    "--quick", is_flag=True, help="A look within minutes, at 1,769 MB, with too few starts for figures to quote."
)
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Only ways whose name contains this, and this layer; repeatable."
)
@click.option(
    "--layer", type=click.Path(path_type=Path, file_okay=False), help="The layer's folder. Default: build/layer."
)
def coldstart(runs: int | None, quick: bool, only: tuple[str, ...], layer: Path | None) -> None:
    """Time the first answer of the sample function, from the start of its process, on each way to bring PyTorch to Lambda.

    Stock PyTorch with valid bytecode and as SAM ships it, the 2018 recipe (delete and strip), a nested zip, zstd into memory,
    ONNX Runtime with the same network, and this layer: in turns, in the test box where the machine allows it, at 1,769 and
    3,008 MB, with the page cache warm and dropped. It needs `make layer`, and some minutes and 5 GB below build/ the first time.

    Prints the tables, writes build/bench/coldstart.json, and draws docs/coldstart.svg: a bar for each way, a colour for each
    phase. With --quick or --only it draws nothing.

    \b
    Example:
        lambda-torch bench coldstart
        lambda-torch bench coldstart --quick --only onnxruntime
    """
    arguments = [*(["--runs", str(runs)] if runs else []), *(["--quick"] if quick else [])]
    for text in only:
        arguments += ["--only", text]
    if layer is not None:
        arguments += ["--layer", str(layer.resolve())]
    # A process of its own: the programs in benchmarks/ are found from the checkout's root.
    command = [sys.executable, "-m", "benchmarks.coldstart", *arguments]
    sys.exit(subprocess.run(command, cwd=project.ROOT, check=False).returncode)
