"""`lambda-torch layer add`, `remove` and `list`: the packages that a user adds to the layer."""

from typing import TYPE_CHECKING

import click

from lambda_torch import project
from lambda_torch.commands._bucket import json_option, print_json
from lambda_torch.commands._tables import megabytes, print_table

if TYPE_CHECKING:
    from lambda_torch.packages.layer_list import ListedPackage


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command()
@click.argument("requirements", metavar="NAME...", nargs=-1, required=True)
@json_option
def add(requirements: tuple[str, ...], as_json: bool) -> None:
    """Add packages to the layer, and say what they take.

    NAME is a package's name, with a version if you like: tokenizers==0.23.3. Without one, the version is written that pip
    finds for the layer's torch and NumPy. Packages without a wheel for this Python and processor are refused, and so are
    those that need a GPU.

    In a project of `lambda-torch init`, the list is model/requirements.txt. In a checkout it is
    layers/torch/extra-requirements.txt. `serve` and `check` use the same list.

    \b
    Example:
        lambda-torch layer add transformers
        lambda-torch layer add scikit-learn==1.9.1 pillow
    """
    from lambda_torch.packages import layer_list

    _print(layer_list.add(requirements, _say), as_json, is_changed=True)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Take packages out of the layer's list. What only they required goes with them.

    \b
    Example:
        lambda-torch layer remove transformers
    """
    from lambda_torch.packages import layer_list

    _print(layer_list.remove(names, _say), as_json, is_changed=True)


@click.command("list")
@json_option
def show(as_json: bool) -> None:
    """Show the packages that are added to the layer, where each goes, and what it takes.

    \b
    Example:
        lambda-torch layer list --json
    """
    from lambda_torch.packages import layer_list

    _print(layer_list.listed(_say), as_json, is_changed=False)


def _print(packages: "list[ListedPackage]", as_json: bool, *, is_changed: bool) -> None:
    from lambda_torch.packages import layer_list
    from lambda_torch.scaffold import build_files

    changed = build_files.refresh(project.OWN) if is_changed and project.OWN is not None else []
    if as_json:
        print_json({"file": str(layer_list.file()), "packages": [package._asdict() for package in packages]})
        return
    if not packages:
        click.echo(f"{layer_list.file()} adds no packages.")
        return
    rows = [
        (
            f"{package.name} {package.version}" + ("" if package.asked else " (required)"),
            package.place,
            megabytes(package.bytes),
            megabytes(package.in_layer) if package.place == "layer" else "",
        )
        for package in sorted(packages, key=lambda package: (not package.asked, package.name))
    ]
    print_table(("package", "goes into", "#MB as installed", "#MB in the layer"), rows)
    total = sum(package.in_layer for package in packages)
    if total:
        click.echo(f"about {megabytes(total)} MB more in the layer, by the builder's forecast")
    if changed:
        click.echo(f"wrote {', '.join(changed)} for the next sam build")
    if is_changed:
        after = "lambda-torch check" if project.OWN is not None else "make layer"
        click.echo(f"In {layer_list.file()}. Next: {after}")
