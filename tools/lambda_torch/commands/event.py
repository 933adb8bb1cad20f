"""`lambda-torch event`: make an event for `POST /predict` from a file, as API Gateway makes it."""

import json
import mimetypes
from pathlib import Path
from urllib.parse import urlencode

import click

# What the standard library's table does not know, or knows by another name.
MEDIA_TYPES = {".npy": "application/x-npy", ".webp": "image/webp", ".wav": "audio/wav", ".flac": "audio/flac"}
UNKNOWN = "application/octet-stream"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another field of the request, which goes into the query string. May be repeated.",
)
@click.option("--type", "media_type", help="The media type of the file. Default: by the name of the file.")
@click.option(
    "--payload",
    type=click.Choice(["v1", "v2"]),
    default="v1",
    show_default=True,
    help="The format of the event: that of a REST API (v1), or that of an HTTP API or function URL (v2).",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not to the screen."
)
def command(file: Path, fields: tuple[str, ...], media_type: str | None, payload: str, output: Path | None) -> None:
    """Make an event for POST /predict whose body is FILE: an image, a sound, an array, or a request as JSON.

    \b
    Example:
        lambda-torch event cat.png --field threshold=0.5 --output events/cat.json
        lambda-torch invoke events/cat.json
    """
    pairs = [field.partition("=") for field in fields]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter("A field has the form NAME=VALUE.", param_hint="--field")
    kind = media_type or media_type_of(file)
    event = event_of(file.read_bytes(), kind, urlencode([(name, value) for name, _, value in pairs]), payload)
    text = json.dumps(event, indent=1) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"Next: lambda-torch invoke {output}")


def media_type_of(file: Path) -> str:
    """The media type by the file's name; application/octet-stream where it says nothing."""
    return MEDIA_TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name, strict=True)[0] or UNKNOWN


def event_of(body: bytes, media_type: str, query: str, payload: str) -> dict[str, object]:
    """The event that API Gateway makes of `POST /predict`.

    Args:
        query: the query string, without `?`.
        payload: `v1` or `v2`, the payload format.
    """
    from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest

    headers = [("Content-Type", media_type), ("Host", "127.0.0.1:3000")]
    return PAYLOADS[payload].event(GatewayRequest("POST", "/predict", query, headers, body))
