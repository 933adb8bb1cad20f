"""`lambda-torch check`: go through a model before it is published."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_torch import project
from lambda_torch.commands._bucket import json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.checking.ticks import Tick

_MARKS = {"ok": ("\N{CHECK MARK}", "green"), "failed": ("\N{BALLOT X}", "red"), "skipped": ("\N{EN DASH}", "dim")}


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option(
    "--release",
    type=click.Path(path_type=Path),
    help="The release folder. Default: DIR/release, or build/releases/NAME; DIR/make_release.py makes it if there is none.",
)
@click.option(
    "--memory", type=click.IntRange(128, 10_240), help="The function's memory in MB. Default: as in samconfig.toml."
)
@json_option
def command(folder: Path, release: Path | None, memory: int | None, as_json: bool) -> None:
    """Go through the model in DIR (default: the current folder): code, answers, packages, sizes.

    The command deploys nothing and builds nothing. Its status is 0 if everything is as it must be, and 1 if not. Each
    line that is not green says what to do next.

    \b
    Example:
        lambda-torch check
        lambda-torch check examples/chat --json
    """
    from rich.console import Console

    from lambda_torch.checking.running import ticks
    from lambda_torch.commands._running import release_of
    from lambda_torch.scaffold import build_files, parameters

    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    try:
        package = project.model_package(folder)
    except ValueError as error:
        raise click.ClickException(f"{error}\nNext: lambda-torch init DIR makes a project with one.") from error
    folder = package.parent
    if release is None:
        release = release_of(folder, console)
    chosen = parameters.of(folder)
    memory_mb, storage_mb = memory or chosen.memory_mb, chosen.storage_mb
    if changed := build_files.refresh(folder):
        console.print(f"requirements.txt has changed: wrote {', '.join(changed)} for the next sam build", style="dim")
    seen = []
    for tick in ticks(folder, release, memory_mb, storage_mb, lambda text: console.print(text, style="dim")):
        seen.append(tick)
        if not as_json:
            _print(console, tick)
    failed = [tick.name for tick in seen if tick.state != "ok"]
    if as_json:
        print_json({"ok": not failed, "release": str(release), "checks": [tick.facts() for tick in seen]})
    elif failed:
        console.print(f"Not ready: {', '.join(failed)}.")
    else:
        console.print("Ready. Next: sam build --use-container, sam deploy --guided, and lambda-torch publish")
    sys.exit(1 if failed else 0)


def _print(console: "Console", tick: "Tick") -> None:
    from rich.markup import escape

    mark, style = _MARKS[tick.state]
    first, *others = tick.message.splitlines() or [""]
    console.print(f"[{style}]{mark}[/] {tick.name:<9} {escape(first)}")
    for line in others:
        console.print(f"            {escape(line)}")
    if tick.next:
        console.print(f"            [bold]Next:[/] {escape(tick.next)}")
