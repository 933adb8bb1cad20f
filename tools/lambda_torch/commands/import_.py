"""`lambda-torch import`: make a release folder of the tutorial's two files."""

from pathlib import Path

import click

from lambda_torch.commands._model import sample_model


@click.command()
@click.option(
    "--state-dict",
    type=click.Path(path_type=Path),
    required=True,
    help="The file that torch.save(rnn.state_dict(), ...) wrote.",
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
    help="The most letters after the first letter of a name (the constant of that name in the tutorial).",
)
@click.option(
    "--max-start-letters",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="The most names that the release writes for one request.",
)
def command(state_dict: Path, params: Path, output: Path, max_length: int, max_start_letters: int) -> None:
    """Make a release folder from a state dict and a parameters pickle.

    The files are those of the 2018 post on PyTorch in AWS Lambda: the weights of the PyTorch tutorial's network, and
    its categories and letters. This command runs no code from them: it refuses a pickle that names a function or a
    class.

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
