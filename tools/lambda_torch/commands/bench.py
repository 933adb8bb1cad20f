"""`lambda-torch bench`: the benchmarks that users ask for. Each is a program in benchmarks/."""

import subprocess
import sys
from pathlib import Path

import click

from lambda_torch import project


@click.group()
def command() -> None:
    """Measure the function beside other ways to serve PyTorch on Lambda."""


@command.command()
@click.option(
    "--runs", type=click.IntRange(2), help="How many starts of each way to count, at each setting. Default: 7."
)
@click.option(
    "--quick", is_flag=True, help="Take a few minutes, at 1,769 MB. The starts are too few for figures to quote."
)
@click.option(
    "--only",
    multiple=True,
    metavar="TEXT",
    help="Measure this layer, and the ways whose name contains TEXT. Can be given several times.",
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    type=click.Choice(["names", "minilm", "chat"]),
    help="Measure this model only. Can be given several times. The others keep their last figures in the file.",
)
@click.option(
    "--layer", type=click.Path(path_type=Path, file_okay=False), help="The folder of the layer. Default: build/layer."
)
def coldstart(
    runs: int | None, quick: bool, only: tuple[str, ...], subjects: tuple[str, ...], layer: Path | None
) -> None:
    """Measure the time from the start of the process to the first answer, for each way to bring PyTorch to Lambda.

    The ways: stock PyTorch with valid bytecode and as SAM ships it, the 2018 recipe (delete and strip), a nested zip,
    zstd into memory, ONNX Runtime with the same network, and this layer. They take turns, in the test box where the
    machine allows it, at 1,769 and 3,008 MB, with the page cache warm and dropped. Run `make layer` first. The first
    time takes some minutes and 5 GB below build/.

    Three models are measured: the sample model (names), the example of embeddings (minilm) beside stock PyTorch and
    ONNX Runtime, and the example of chat beside stock PyTorch, both at 1,769 MB.

    Prints the tables, writes build/bench/coldstart.json, and draws docs/coldstart.svg with a bar for each way and a
    colour for each phase. With --quick or --only it draws nothing.

    \b
    Example:
        lambda-torch bench coldstart
        lambda-torch bench coldstart --quick --only onnxruntime
    """
    arguments = [*(["--runs", str(runs)] if runs else []), *(["--quick"] if quick else [])]
    for text in only:
        arguments += ["--only", text]
    for subject in subjects:
        arguments += ["--subject", subject]
    if layer is not None:
        arguments += ["--layer", str(layer.resolve())]
    project.need_checkout("lambda-torch bench")
    # A separate process, because the programs in benchmarks/ are imported from the root of the checkout.
    command = [sys.executable, "-m", "benchmarks.coldstart", *arguments]
    sys.exit(subprocess.run(command, cwd=project.ROOT, check=False).returncode)
