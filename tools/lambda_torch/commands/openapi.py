"""`lambda-torch openapi`: the API's document without running it, for clients made from it and for a look at what changed."""

import json
from pathlib import Path

import click

from lambda_torch.commands._model import model_option


@click.command()
@model_option
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A release folder, for what only it knows, such as the sample's categories.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file; otherwise it is printed.")
def command(model: Path | None, release: Path | None, output: Path | None) -> None:  # noqa: ARG001 -- its callback used it
    """Print the API's OpenAPI 3.1 document, as GET /openapi.json answers it.

    \b
    Example:
        lambda-torch openapi --output docs/openapi.json
    """
    text = json.dumps(document(release), indent=1, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def document(release: Path | None) -> dict[str, object]:
    """The document, without or with a release's knowledge.

    Raises:
        click.ClickException: the release does not load.
    """
    from model import Model, Request, Response
    from serving.http import openapi
    from serving.http.routes import ROUTES
    from serving.settings import Settings

    try:
        loaded = None if release is None else Model.load(release)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    return openapi.document(Request, Response, loaded, Settings().max_batch_items, ROUTES)
