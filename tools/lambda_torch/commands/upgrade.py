"""`lambda-torch upgrade`: bring the files of a project up to the version of lambda-torch that runs."""

import difflib
import sys
import tempfile
from pathlib import Path

import click

from lambda_torch import project


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--yes", is_flag=True, help="Write the changes without a question.")
@click.option("--dry-run", is_flag=True, help="Show the changes, and write nothing.")
@click.option("--force", is_flag=True, help="Write template.yaml again even if it was edited outside of OWN RESOURCES.")
def command(folder: Path, yes: bool, dry_run: bool, force: bool) -> None:
    """Bring the project in DIR (default: the current folder) up to this version of lambda-torch.

    The command shows what it would change, and asks: the version numbers, template.yaml and the files that `sam build`
    runs. Your model, your settings and the part OWN RESOURCES of template.yaml stay.

    \b
    Example:
        pip install --upgrade lambda-torch
        lambda-torch upgrade
    """
    from lambda_torch.errors import ProjectError
    from lambda_torch.scaffold import upgrading

    if project.own_folder(folder) is None:
        raise ProjectError(
            f"{folder} is no project of lambda-torch init. Next: run this in the folder that init has made."
        )
    with tempfile.TemporaryDirectory() as scratch:
        upgrade = upgrading.plan(folder, Path(scratch))
        if not upgrade.texts:
            click.echo(f"Everything is of version {upgrade.pin.version} already.", err=True)
            return
        for name, text in upgrade.texts.items():
            path = folder / name
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), name, name, lineterm="")
            click.echo("\n".join(lines))
        if upgrade.edited and not force:
            raise ProjectError(
                "template.yaml was edited outside of OWN RESOURCES, and this would undo it. Nothing was changed. "
                "Next: move your resources between the two lines, set parameters in samconfig.toml, and use --force."
            )
        if dry_run:
            return
        if not yes and not click.confirm(f"Write {', '.join(upgrade.texts)}?", err=True):
            sys.exit(1)
        upgrading.write(folder, upgrade)
    click.echo(
        f"The project is of version {upgrade.pin.version}. Next: sam build --use-container, sam deploy", err=True
    )
