"""`lambda-torch init`: make a project of the user's own."""

import shlex
import tempfile
from pathlib import Path

import click

from lambda_torch.scaffold.blueprints import KINDS


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="What the model takes: a picture, a text, a row of numbers, or a text to go on with. [default: tabular]",
)
@click.option(
    "--from",
    "source",
    metavar="FILE|torchvision:NAME|hf:FOLDER",
    help="A model that exists: a state dict (with --module), a torch.export program (.pt2), TorchScript, an architecture of "
    "torchvision, or a folder from Hugging Face (config.json, safetensors, tokenizer.json).",
)
@click.option(
    "--module",
    metavar="FILE.py:CLASS",
    help="The class of the network that the state dict belongs to. The file is copied into the project.",
)
@click.option(
    "--input",
    "shape",
    metavar="N,N,...",
    help="The shape of one input, without the batch, where the file does not tell it: 3,224,224.",
)
@click.option(
    "--models",
    metavar="NAME,NAME,...",
    help="Make a stack with several models of these names. They share the code of the project.",
)
def command(
    folder: Path, kind: str | None, source: str | None, module: str | None, shape: str | None, models: str | None
) -> None:
    """Make a project in DIR: a model, its weights, and a stack for AWS.

    The project works at once: `lambda-torch serve` in DIR serves it. The code of lambda-torch is no part of it, only its
    version number is.

    \b
    Examples:
        lambda-torch init flowers --kind image
        cd flowers
        lambda-torch serve
        lambda-torch init shop --models prices,returns
    """
    from rich.console import Console

    from lambda_torch.scaffold import making, of_several
    from lambda_torch.scaffold.blueprints import of_kind

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    target = folder.resolve()
    making.require_empty(target)
    names = of_several.names_of(models) if models is not None else []
    with tempfile.TemporaryDirectory() as scratch:
        if source is None:
            if module or shape:
                raise click.UsageError("--module and --input describe a model that --from names.")
            blueprint = of_kind(kind or "tabular")
        else:
            from lambda_torch.scaffold import existing

            if kind is not None:
                raise click.UsageError("--from and --kind cannot be used together: the model decides.")
            hints = existing.Hints(module, existing.shape_of(shape))
            with console.status(f"Reading {source}"):
                blueprint = existing.blueprint(source, hints, Path(scratch))
        making.make(target, blueprint, lambda text: console.print(text, style="bold"))
    if names:
        of_several.add(target, names)
    console.print(f"{folder} is ready. README.md in it explains each file. Next:")
    click.echo(f"cd {shlex.quote(str(folder))}")
    click.echo(f"lambda-torch serve{f' --model {names[0]}' if names else ''}")
