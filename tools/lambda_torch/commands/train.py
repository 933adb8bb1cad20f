"""`lambda-torch train`: train the sample model into a release folder."""

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
    help="The release folder to write. It replaces an older release there when the new one is complete.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A folder with one Category.txt for each category, with one name in each line, in UTF-8. Default: names from the "
    "Faker package.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="The same seed gives the same weights.",
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
    help="The most names that the release writes for one request.",
)
def command(output: Path, data: Path | None, seed: int, batches: int, max_start_letters: int) -> None:
    """Train the sample model (names) into a release folder.

    The model is the character-level RNN of the PyTorch tutorial. Training leaves out one name in ten and tests the
    model on these. If the model predicts them no better than letter frequencies do, the command fails and writes
    nothing.

    \b
    Example:
        lambda-torch train
        lambda-torch train --data data/names --output build/mine
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading PyTorch"), sample_model():
        from lambda_torch.names.console import train_release
        from lambda_torch.names.training import TrainingSettings

    settings = TrainingSettings(seed=seed, batches=batches, max_start_letters=max_start_letters)
    try:
        train_release(output, settings, console, data)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(output)
