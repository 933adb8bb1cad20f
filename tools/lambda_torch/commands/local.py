"""`lambda-torch local`: run `sam build --use-container` and `sam local start-api`, with an S3 server."""

import shlex
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_torch import project
from lambda_torch.commands._running import own_release, reports_to, signals_interrupt

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The release folder to publish. Default: build/release if it exists, else the trained sample.",
)
@click.option("--build/--no-build", default=True, show_default=True, help="Run sam build --use-container first.")
@click.option(
    "--storage-only",
    is_flag=True,
    help="Start only the S3 server, with the release. Prints the sam local commands that use it, and builds nothing.",
)
def command(port: int, release: Path | None, build: bool, storage_only: bool) -> None:
    """Serve the function in AWS's own container at http://127.0.0.1:3000, without an AWS account.

    The command builds the function and the layer with `sam build --use-container` (only what changed), starts an S3
    server (moto) with a release in it, and runs `sam local start-api`. Ctrl-C ends everything and removes the
    containers. It needs Docker. `lambda-torch serve` does not.

    \b
    Example:
        lambda-torch local --port 8080
        curl -d '{"category":"Russian","start_letters":"RUS"}' http://127.0.0.1:8080/predict
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    serving = threading.Event()
    with signals_interrupt():
        try:
            _run(console, port, release, build=build, storage_only=storage_only, serving=serving)
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped.")
            sys.exit(0 if serving.is_set() else 130)


def _run(
    console: "Console",
    port: int,
    release: Path | None,
    *,
    build: bool,
    storage_only: bool,
    serving: threading.Event,
) -> None:
    from lambda_torch.emulator.processes import Processes
    from lambda_torch.emulator.run import listen
    from lambda_torch.errors import SamError
    from lambda_torch.sam import building, docker, runtime, start_api

    reports = reports_to(console)
    project.need_checkout("lambda-torch local")
    docker.require()
    if not storage_only:
        listen("127.0.0.1", port).close()  # a port that is in use fails here, before the long work
    if release is None:
        release = own_release()
    if not storage_only and build:
        building.build(runtime.choose(reports.step), reports.step)
    if not storage_only and not (project.ROOT / building.BUILT_TEMPLATE).is_file():
        raise SamError("There is no build in .aws-sam. Next: leave out --no-build, or run sam build --use-container")
    with Processes() as processes, start_api.storage(release, processes, reports.step) as (server, variables):
        if storage_only:
            click.echo(f"sam local start-api --env-vars {variables.path}")
            click.echo(f"sam local invoke --env-vars {variables.path} --event {project.EVENTS / 'bare.json'}")
            serving.set()
            while server.alive:
                time.sleep(0.5)
            return
        reports.step("Starting sam local start-api and its container (SAM first copies the layer into an image)")
        with start_api.start_api(processes, variables, port, reports.log) as api:
            with urllib.request.urlopen(f"{api.url}/health", timeout=start_api.START_SECONDS) as answer:  # noqa: S310
                answer.read()
            reports.step("Ready. Ctrl-C ends everything. Try:")
            click.echo(f"curl -d {shlex.quote(variables.example)} {api.url}/predict")
            serving.set()
            while server.alive and api.child.alive:
                time.sleep(0.5)
            ended = api.child if not api.child.alive else None
            raise SamError(
                f"{'sam local start-api' if ended else 'The S3 server'} ended unexpectedly: {(ended or server).tail()}"
            )
