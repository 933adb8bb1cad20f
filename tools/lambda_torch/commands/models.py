"""`lambda-torch models`: write the template of a stack with several models."""

from collections.abc import Mapping
from pathlib import Path

import click

from lambda_torch.commands._bucket import json_option, print_json
from lambda_torch.commands._tables import print_table


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option(
    "--add",
    "names",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="First add these models to models.toml, which is made if there is none. Can be given several times.",
)
@click.option("--check", is_flag=True, help="Write nothing. The exit status is 1 if the template is not up to date.")
@click.option("--force", is_flag=True, help="Write the template also if it was edited by hand.")
@json_option
def command(folder: Path, names: tuple[str, ...], check: bool, force: bool, as_json: bool) -> None:
    """Write template-models.yaml: a stack with the models of models.toml, each at /models/NAME/.

    The template is derived from template.yaml in DIR (default: the current folder). Each model has its own function,
    with its own memory, timeout, alarms, queue and log. All of them share the layer, the bucket, the API, its keys, its
    domain and the dashboard. Run this again after a change of models.toml or of template.yaml.

    \b
    Example:
        lambda-torch models --add names,flowers
        sam build --use-container --template-file template-models.yaml
        sam deploy --stack-name models
    """
    from lambda_torch.errors import ProjectError
    from lambda_torch.scaffold import build_files
    from lambda_torch.several import model_table, written

    if names:
        if check:
            raise click.UsageError("--check writes nothing, so it does not go together with --add.")
        model_table.add(folder, [name.strip() for each in names for name in each.split(",")])
    table = model_table.find(folder)
    if table is None:
        raise ProjectError(
            f"{folder / model_table.FILE_NAME} does not exist.\n"
            "Next: lambda-torch models --add NAME,NAME makes it with these models."
        )
    text = written.text_of(folder, table)
    target = folder / written.FILE_NAME
    before = target.read_text(encoding="utf-8") if target.is_file() else None
    if check and before != text:
        raise ProjectError(f"{target} is not what {table.path} and template.yaml make.\nNext: lambda-torch models")
    if before != text and before is not None and written.is_edited(before) and not force:
        raise ProjectError(
            f"{target} was edited by hand, and this would undo it. Nothing was changed.\n"
            "Next: make the change in template.yaml or models.toml, and use --force."
        )
    if build_files.code_folders(folder) and not (folder / "layer" / "Makefile").is_file():
        raise ProjectError(
            f"{table.path} names code, and {folder.resolve()} is no project that lambda-torch init has made.\n"
            "Next: make one (lambda-torch init), or let all models use the code of the stack."
        )
    changed = [] if check else build_files.refresh(folder)
    if before != text:
        target.write_text(text, encoding="utf-8")
        changed.append(target.name)
    if as_json:
        facts = [
            {"name": row.name, "path": f"/models/{row.name}", "code": row.code, "release": row.release}
            for row in table.rows
        ]
        print_json({"template": str(target), "changed": changed, "models": facts})
        return
    rows = [
        (row.name, f"/models/{row.name}", row.code or "that of the stack", row.release, _shown(row.parameters))
        for row in table.rows
    ]
    print_table(("name", "path", "code", "release", "parameters"), rows)
    click.echo(f"Wrote {', '.join(changed)}." if changed else f"{target} is up to date.", err=True)


def _shown(parameters: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in parameters.items())
