"""`lambda-torch train`: names in, a release folder out."""

from pathlib import Path

import click

from lambda_torch import project
from lambda_torch.commands._model import sample_model


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=project.RELEASE,
    show_default="build/release",
    help="The release folder to write; an older release there is replaced when the new one is done.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A folder with one Category.txt for each category: one name a line, UTF-8. Without it, names come from the "
    "Faker package.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Same seed, same weights."
)
@click.option(
    "--batches",
    type=click.IntRange(2),
    default=600,
    show_default=True,
    help="How long to train, in batches of 128 names.",
)
@click.option(
    "--max-start-letters",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="How many names the release writes for one request at most.",
)
def command(output: Path, data: Path | None, seed: int, batches: int, max_start_letters: int) -> None:
    """Train the sample model (names) into a release folder.

    The model is the character-level RNN of the PyTorch tutorial. One name in ten is held out; a model that predicts
    those no better than letter frequencies do is an error, and nothing is written.

    \b
    Example:
        lambda-torch train
        lambda-torch train --data data/names --output build/mine
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading PyTorch"), sample_model():
        from lambda_torch.names.console import train_release
        from lambda_torch.names.training import Settings, TrainingError

    settings = Settings(seed=seed, batches=batches, max_start_letters=max_start_letters)
    try:
        train_release(output, settings, console, data)
    except (ValueError, TrainingError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(output)
