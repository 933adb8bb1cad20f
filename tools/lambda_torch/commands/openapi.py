"""`lambda-torch openapi`: print the API's document without running the API, to generate clients or to see changes."""

import json
from pathlib import Path

import click

from lambda_torch.commands._model import model_option


@click.command()
@model_option
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A release folder, for what only a release knows, such as the categories of the sample model.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of printing."
)
def command(model: Path | None, release: Path | None, output: Path | None) -> None:  # noqa: ARG001 -- its callback used it
    """Print the OpenAPI 3.1 document of the API, the one that GET /openapi.json answers.

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
    """The document. With a release, it includes what only that release knows.

    Raises:
        click.ClickException: the release does not load.
    """
    import model
    from model import Model, Request, Response
    from serving.http import openapi
    from serving.http.routes import routes_of
    from serving.settings import Settings

    try:
        loaded = None if release is None else Model.load(release)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    stream = getattr(Model, "stream", None)
    return openapi.document(Request, Response, loaded, Settings().max_batch_items, routes_of(model), stream)
