"""`lambda-torch layer doctor`: what of the builder's rules does not fit a new torch."""

import json
import sys
from pathlib import Path

import click

from lambda_torch import project
from lambda_torch.commands._bucket import json_option, print_json

WHEELS = project.BUILD / "wheels"


@click.command()
@click.argument("wheels", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1)
@click.option(
    "--fetch", "version", help="Download this version of torch first ('newest': the newest), into build/wheels."
)
@click.option("--python", default="3.13", show_default=True, help="With --fetch: the Python that the wheel is for.")
@click.option(
    "--machine",
    type=click.Choice(["x86_64", "aarch64"]),
    default="x86_64",
    show_default=True,
    help="With --fetch: the processor that the wheel is for.",
)
@click.option("--every-row", is_flag=True, help="Show the rows that fit, too.")
@json_option
def doctor(
    wheels: tuple[Path, ...], version: str | None, python: str, machine: str, every_row: bool, as_json: bool
) -> None:
    """Hold every rule of the layer's builder against a wheel of torch. Nothing is built or imported; it takes half a minute.

    WHEELS is the file of a wheel of torch. Name NumPy's wheel as well if its version is new, too.

    The rules say which modules of torch wait, which files are left out, which stay files, what libraries may need, and
    how large the layer may be. The table names each row that does not fit, and the file that has it. What only a build
    can find out is listed as "not checked".

    The exit status is 1 if a row does not fit, or if no rules know this version.

    \b
    Example:
        lambda-torch layer doctor torch-2.15.0+cpu-cp313-cp313-manylinux_2_28_x86_64.whl
        lambda-torch layer doctor --fetch newest
    """
    from rich.console import Console

    from builder import paths
    from builder.__main__ import default_requirements
    from builder.doctor import examination, fetch, findings
    from builder.errors import BuildError
    from builder.stage import policy

    project.need_checkout("lambda-torch layer doctor")
    if bool(wheels) == (version is not None):
        raise click.UsageError("Name the file of a wheel of torch, or give --fetch VERSION. Next: --help has examples")
    console = Console(stderr=True, highlight=False)
    report = project.BUILD / "report.json"
    built = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else None
    try:
        if version is not None:
            console.print("Downloading the wheel (some 200 MB)")
            wheels = (fetch.fetch("" if version == "newest" else version, python, machine, WHEELS),)
        with console.status("") as status:
            found = examination.examine(
                wheels, default_requirements(), paths.PROFILES, built, policy.BUDGET_BYTES, status.update
            )
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    bad = findings.misfits(found)
    if as_json:
        print_json({"wheels": [path.name for path in wheels], "misfits": len(bad), "findings": findings.as_json(found)})
    else:
        click.echo("\n".join(findings.table(found, every_row=every_row)))
        if bad:
            click.echo("Next: CONTRIBUTING.md has the recipe (Update torch)")
    sys.exit(1 if bad else 0)
