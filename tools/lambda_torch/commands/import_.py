"""`lambda-torch import`: the tutorial's two files in, a release folder out."""

from pathlib import Path

import click

from lambda_torch.commands._model import sample_model


@click.command()
@click.option(
    "--state-dict", type=click.Path(path_type=Path), required=True, help="What torch.save(rnn.state_dict(), ...) wrote."
)
@click.option(
    "--params",
    type=click.Path(path_type=Path),
    required=True,
    help="A pickle of a dict with all_categories, n_categories, all_letters and n_letters.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The release folder to write.")
@click.option(
    "--max-length",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    help="At most so many letters follow a name's first (the tutorial's constant of that name).",
)
@click.option(
    "--max-start-letters",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="How many names the release writes for one request at most.",
)
def command(state_dict: Path, params: Path, output: Path, max_length: int, max_start_letters: int) -> None:
    """Make a release folder from a state dict and a parameters pickle.

    The files are those of the 2018 post on PyTorch in AWS Lambda: the network of the PyTorch tutorial, and what it needs
    to know about categories and letters. Nothing in them is run: a pickle that names a function or a class is refused.

    \b
    Example:
        lambda-torch import --state-dict model.pth --params params.pkl --output build/release
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading PyTorch"), sample_model():
        from lambda_torch.names.folder import check_output, write_release
        from lambda_torch.names.legacy import convert

    try:
        check_output(output)
        config, weights = convert(state_dict, params, max_length=max_length, max_start_letters=max_start_letters)
        write_release(output, config, weights)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    console.print(
        f"{len(config.categories)} categories, {len(config.letters)} letters, hidden size {config.architecture.hidden_size}."
    )
    click.echo(output)
