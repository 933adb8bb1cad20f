"""`lambda-torch serve`: serve a release folder at a local address."""

import contextlib
import json
import shlex
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_torch.commands._running import (
    memory_option,
    options_of,
    reports_to,
    run_options,
    signals_interrupt,
    styled_lines,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from rich.console import Console

    from lambda_torch.emulator.gateway import Handled
    from lambda_torch.emulator.joining import JoiningLimits
    from lambda_torch.emulator.run import LocalRun, Reports, RunOptions
    from lambda_torch.emulator.storage import Storage


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="0 means any free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 also serves other machines.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="The most environments at the same time.",
)
@click.option(
    "--payload",
    type=click.Choice(["v1", "v2"]),
    default="v1",
    show_default=True,
    help="The format of events: that of a REST API (v1), or that of an HTTP API or function URL (v2).",
)
@click.option(
    "--reload/--no-reload",
    default=True,
    show_default=True,
    help="Restart the function when a file of its code is saved.",
)
@click.option(
    "--verbose", is_flag=True, help="Show the function's log as it is: JSON, with the phases of each request."
)
@click.option(
    "--runtime",
    type=click.Choice(["own", "shipped"]),
    default="own",
    show_default=True,
    help="'own' is the Runtime API of this command. 'shipped' is AWS's Runtime Interface Emulator, which the SAM CLI "
    "ships: it does not stream, and runs on Linux only.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    envvar="LAMBDA_TORCH_SERVE_BATCH",
    show_envvar=True,
    help="The most requests that come at the same time and are answered as one list. 1 answers each one alone.",
)
@click.option(
    "--batch-milliseconds",
    type=click.FloatRange(0, 1000),
    default=5.0,
    show_default=True,
    envvar="LAMBDA_TORCH_SERVE_BATCH_MILLISECONDS",
    show_envvar=True,
    help="How long the first request of a list waits for others. With 0 only requests that wait for an environment "
    "are joined.",
)
@run_options
@memory_option
@click.pass_context
def command(
    context: click.Context,
    port: int,
    host: str,
    concurrency: int,
    payload: str,
    reload: bool,
    verbose: bool,
    runtime: str,
    batch: int,
    batch_milliseconds: float,
    model: Path | None,
    release: Path | None,
    layer: str,
    memory: int,
    timeout: int,
    variables: dict[str, str],
) -> None:
    """Serve the function at http://127.0.0.1:3000, without Docker and without an AWS account.

    AWS's own runtime client runs the function as Lambda would, on a Runtime API of this command. Streamed answers
    arrive piece by piece. A local S3 server (moto) holds the release while the command runs. When you save a file in
    src/ (or in the folder of the model), the function restarts. Ctrl-C ends everything.

    \b
    Example:
        lambda-torch serve --port 8080 --layer stock
        lambda-torch serve --model examples/embeddings --concurrency 1 --batch 16
        curl -d '{"category":"Russian","start_letters":"RUS"}' http://127.0.0.1:8080/predict
    """
    from rich.console import Console

    from lambda_torch.emulator import joining, log_lines
    from lambda_torch.emulator.run import listen

    limits = joining.limits_of(batch, batch_milliseconds, variables)
    console = Console(stderr=True, highlight=False)
    serving = threading.Event()
    with signals_interrupt():
        try:
            with listen(host, port) as taken:
                options = options_of(
                    context,
                    console,
                    model=model,
                    release=release,
                    layer=layer,
                    memory=memory,
                    timeout=timeout,
                    variables=variables,
                    concurrency=concurrency,
                    shipped_emulator=runtime == "shipped",
                )
                reports = reports_to(console)
                reports = replace(reports, log=log_lines.writer(reports.log, verbose=verbose))
                _serve(options, taken, payload, console, reports, serving, limits, reload=reload)
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped.")
            sys.exit(0 if serving.is_set() else 130)


def _serve(
    options: "RunOptions",
    taken: "socket.socket",
    payload: str,
    console: "Console",
    reports: "Reports",
    serving: threading.Event,
    limits: "JoiningLimits | None",
    *,
    reload: bool,
) -> None:
    import os

    from lambda_torch.emulator import readiness, run
    from lambda_torch.emulator.gateway import Gateway
    from lambda_torch.emulator.invoke_api import InvokeApi
    from lambda_torch.emulator.joining import Joiner
    from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest
    from lambda_torch.emulator.watching import Watch
    from lambda_torch.errors import EmulatorError

    started = time.monotonic()
    form = PAYLOADS[payload]
    health = json.dumps(form.event(GatewayRequest("GET", "/health"))).encode()
    with run.running(options, health, reports) as running, run.listen("127.0.0.1", 0) as invocations:
        identity = run.new_identity()
        # An answer may wait for a start-up, and for the requests before it in the queue.
        invoke_api = InvokeApi(running.pool, identity, timeout_seconds=4 * options.timeout_seconds)
        joiner = None
        if limits is not None:
            _check_lists()
            joiner = Joiner(running.pool, form, limits, options.concurrency)
        gateway = Gateway(running.pool, form, _access_log(console), streams=running.streams, joiner=joiner)
        with (
            run.serving(invoke_api, invocations) as invoke_url,
            run.RunNote(invoke_url, identity, os.getpid()).left(),
            run.serving(gateway, taken) as url,
        ):
            reports.step("Asking the function whether it serves the release")
            if reason := readiness.refusal(running.pool, health, reports.step):
                raise EmulatorError(readiness.not_ready(reason, options))
            init = f", of which the function's start-up took {running.init_ms:.0f} ms" if running.init_ms else ""
            reports.step(f"Ready after {time.monotonic() - started:.1f} s{init}. Release {running.version}")
            console.print(f"Lambda's Invoke API, which lambda-torch invoke uses: {invoke_url}", soft_wrap=True)
            console.print("To publish a release here after a change of its files:")
            # Alone in its line, without a style and without a break, so that it can be copied and pasted.
            console.file.write(f"{_publish_command(running.storage, options)}\n")
            with contextlib.ExitStack() as stack:
                watch = None
                if reload:
                    try:
                        watch = stack.enter_context(Watch(running.sources))
                    except EmulatorError as error:
                        reports.note(str(error))
                saving = (
                    f"Save a file in {'src' if options.model is None else 'model'}/ to restart the function. "
                    if watch
                    else ""
                )
                console.print(f"{saving}Ctrl-C ends everything. Try:")
                click.echo(f"curl -d {shlex.quote(running.example)} {url}{_route_prefix(options)}/predict")
                serving.set()
                while running.storage.alive:
                    if watch is None:
                        time.sleep(0.5)
                    elif changed := watch.changed(0.5):
                        _start_again(running, changed, reports, health, options)
            raise EmulatorError(f"The S3 server ended unexpectedly. Its last lines:\n{running.storage.tail()}")


def _check_lists() -> None:
    """Refuse to join requests for a model that would read a list of them as one request."""
    import model
    from lambda_torch.errors import EmulatorError
    from serving.http.validation import takes_lists

    if not takes_lists(model.Request):
        raise EmulatorError(
            "The requests of this model cannot be joined: its Request is a RootModel, so a list is one request. "
            "Next: leave --batch out."
        )


def _start_again(
    running: "LocalRun", changed: set[Path], reports: "Reports", health: bytes, options: "RunOptions"
) -> None:
    """Restart the function with its new code. If it does not start or does not serve, the next save tries again."""
    from lambda_torch.emulator import readiness
    from lambda_torch.emulator.software import FUNCTION_REQUIREMENTS

    names = sorted(path.name for path in changed)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    reports.step(f"{shown} changed: restarting the function")
    if FUNCTION_REQUIREMENTS in changed:
        reports.note("New requirements need a new start of lambda-torch serve. Next: make setup, then start it again.")
    started = time.monotonic()
    if running.pool.renew().result() is not None:
        reports.note("The next save tries again.")
    elif reason := readiness.refusal(running.pool, health, reports.step):
        reports.note(f"{readiness.not_ready(reason, options)}\nThe next save tries again.")
    else:
        reports.step(f"Ready again after {time.monotonic() - started:.1f} s")


def _publish_command(storage: "Storage", options: "RunOptions") -> str:
    """The command that publishes the release again, for a shell in any folder."""
    from lambda_torch.emulator.storage import CREDENTIALS, REGION

    words = [str(Path(sys.argv[0]).absolute()), "publish", str(options.release.absolute())]
    name = options.variables.get("MODEL_NAME")
    if options.model is not None or name:
        words += ["--model", name or str(options.model and options.model.absolute())]
    if options.golden is not None and options.golden.parent != options.model:
        words += ["--golden", str(options.golden.absolute())]
    words += ["--no-try-processors", "--bucket", storage.bucket, "--endpoint-url", storage.url]
    credentials = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
    # The name of a model is known in the folder of models.toml only.
    there = f"cd {shlex.quote(str(Path.cwd()))} && " if name else ""
    return f"{there}{credentials} AWS_REGION={REGION} {shlex.join(words)}"


def _route_prefix(options: "RunOptions") -> str:
    """What the paths of the function begin with: they are those of the stack."""
    name = options.variables.get("MODEL_NAME")
    return f"/models/{name}" if name else ""


def _access_log(console: "Console") -> "Callable[[Handled], None]":
    plain, yellow = styled_lines(console, ""), styled_lines(console, "yellow")

    def write(handled: "Handled") -> None:
        plain(f"{handled.method} {_printable(handled.path)} {handled.status} {handled.milliseconds:.1f} ms")
        if handled.problem:
            yellow(f"  {_printable(handled.problem)}")

    return write


def _printable(text: str) -> str:
    """A client's text without characters that control a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() or each == "\n" else "?" for each in text)
