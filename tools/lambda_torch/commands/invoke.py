"""`lambda-torch invoke`: send one event to the function."""

import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import click

from lambda_torch.commands._running import memory_option, options_of, reports_to, run_options, signals_interrupt

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.emulator.function import InvokeResult
    from lambda_torch.emulator.run import RunOptions

ANSWER_SECONDS = 900  # the longest that a function may take


@click.command()
@click.argument("event", type=click.File("rb"))
@click.option(
    "--url",
    help="The address of a Lambda emulator, such as http://127.0.0.1:8080. Default: the address of a running `lambda-torch "
    "serve`. If there is none, or with --release, this command starts the function for the event.",
)
@run_options
@memory_option
@click.pass_context
def command(
    context: click.Context,
    event: IO[bytes],
    url: str | None,
    model: Path | None,
    release: Path | None,
    layer: str,
    memory: int,
    timeout: int,
    variables: dict[str, str],
) -> None:
    """Send the event in the file EVENT (JSON, or - for standard input) to the function and print its answer.

    The exit status is 1 if the function failed. An answer with an HTTP error status is not a failure. --model,
    --release, --layer, --memory, --timeout and --env apply if this command starts the function.

    \b
    Example:
        lambda-torch invoke events/bare.json
    """
    from rich.console import Console

    from lambda_torch.emulator.run import find_running

    content = _checked(event)
    console = Console(stderr=True, highlight=False)
    with signals_interrupt():
        try:
            note = None if url or release else find_running()
            if url or note:
                outcome = _post(_invoke_url(url or (note.invoke_url if note else "")), content)
            else:
                options = options_of(
                    context,
                    console,
                    model=model,
                    release=release,
                    layer=layer,
                    memory=memory,
                    timeout=timeout,
                    variables=variables,
                )
                outcome = _start_and_invoke(options, content, console)
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped.")
            sys.exit(130)
    click.echo(_pretty(outcome.payload))
    sys.exit(1 if outcome.failed else 0)


def _checked(event: IO[bytes]) -> bytes:
    content = event.read()
    name = getattr(event, "name", "the event")
    try:
        json.loads(content)
    except ValueError as error:
        raise click.ClickException(f"{name} is not JSON: {error}") from error
    return content


def _invoke_url(url: str) -> str:
    """The address of an emulator with the path of the Invoke API, the only path that an emulator has."""
    from lambda_torch.emulator.rie_environment import INVOKE_PATH

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise click.BadParameter(f"{url} is not an http:// address", param_hint="--url")
    return url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{INVOKE_PATH}"


def _post(url: str, content: bytes) -> "InvokeResult":
    """Send the event over HTTP, to the Invoke API of `lambda-torch serve` or to a plain emulator."""
    import requests

    from lambda_torch.emulator.rie_environment import outcome_of
    from lambda_torch.errors import EmulatorError

    try:
        answer = requests.post(url, content, timeout=ANSWER_SECONDS)
    except requests.ConnectionError as error:
        raise EmulatorError(f"Nothing answers at {url}. Next: start lambda-torch serve, or leave out --url.") from error
    except requests.RequestException as error:
        raise EmulatorError(f"{url} does not answer: {error}.") from error
    if "x-amzn-ErrorType" in answer.headers:
        raise EmulatorError(f"{url} refused the event: {answer.text}")
    outcome = outcome_of(answer.status_code, answer.content)
    return outcome if not answer.headers.get("X-Amz-Function-Error") else type(outcome)(outcome.payload, failed=True)


def _start_and_invoke(options: "RunOptions", content: bytes, console: "Console") -> "InvokeResult":
    from lambda_torch.emulator.run import running

    with running(options, None, reports_to(console)) as run:
        return run.pool.submit(content).result()


def _pretty(payload: bytes) -> str:
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except ValueError:
        return payload.decode(errors="replace")
