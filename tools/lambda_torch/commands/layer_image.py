"""`lambda-torch layer image`: the layer as a container image, for functions that are images."""

import shutil
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from lambda_torch import project
from lambda_torch.commands._bucket import json_option, print_json

if TYPE_CHECKING:
    from lambda_torch.layers.chunks import TouchedTree


@click.command()
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), default=project.LAYER)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=project.BUILD / "image",
    show_default="build/image",
    help="The folder for the Dockerfile and its files.",
)
@click.option("--tag", help="Build the image with Docker, under this name.")
@click.option("--base", help="The image below it. Default: AWS's image of the layer's Python and processor.")
@click.option(
    "--function",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of a built function, such as .aws-sam/build/PredictFunction. Without it, the image is a base.",
)
@click.option("--handler", help="The handler of that function, such as app.lambda_handler.")
@click.option(
    "--measure/--no-measure",
    default=False,
    show_default=True,
    help="Start torch once on this machine, and put the files that it reads together, before the others. Linux only.",
)
@click.option(
    "--python", "interpreter", default=sys.executable, show_default="this one", help="The Python for --measure."
)
@json_option
def image(
    path: Path,
    output: Path,
    tag: str | None,
    base: str | None,
    function: Path | None,
    handler: str | None,
    measure: bool,
    interpreter: str,
    as_json: bool,
) -> None:
    """Write a Dockerfile that puts the layer in PATH on AWS's base image, and build it. Default: build/layer.

    The layer becomes /opt, where functions find it as they do on Lambda. Container functions, Managed Instances and
    customer-managed runtimes take such images.

    \b
    Examples:
        lambda-torch layer image --tag torch-base
        lambda-torch layer image --measure --tag names \\
            --function .aws-sam/build/PredictFunction --handler app.lambda_handler
    """
    from rich.console import Console

    from lambda_torch.layers import image as images
    from lambda_torch.layers.built import made_for, require_deployed
    from lambda_torch.sam import docker, image_names

    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    images.ImagePlan(path, "", (), function, handler).check()
    if tag is not None:
        docker.require()
    if base is None:
        (runtime, *_), (architecture, *_) = made_for(path, [each.name for each in path.rglob("*.so")])
        require_deployed(path, [runtime])
        base = image_names.runtime(runtime.removeprefix("python"), architecture)
    measured = _measured(path, interpreter, say) if measure else {}
    ours = measured.get("the layer")
    first = [name for name in ours.order() if name in ours.pages] if ours else []
    say(f"Writing {output}")
    images.write_context(images.ImagePlan(path, base, first, function, handler), output)
    if tag is not None:
        images.build(output, tag, say)
    rows = _rows(measured)
    if as_json:
        print_json({"folder": str(output), "base": base, "tag": tag, "chunks": rows})
        return
    for name, row in rows.items():
        say(f"{name}: a start reads {row['read']:,} of {row['all']:,} chunks of 512 KiB")
    click.echo(tag or output)


def _measured(path: Path, interpreter: str, say: Any) -> dict[str, "TouchedTree"]:
    """What a start reads of the layer, and of the torch that is installed here, if that is another one."""
    from lambda_torch.layers import chunks

    say("Starting torch from the layer, with nothing of it in the page cache")
    found = {"the layer": chunks.measure(path, path / "python", interpreter)}
    stock = Path(sysconfig.get_path("purelib"))
    if interpreter == sys.executable and (stock / "torch").is_dir():
        say("Starting the torch that is installed here, from a copy of its packages")
        with TemporaryDirectory(prefix="stock-") as scratch:
            # A copy, since other processes may use the files themselves, whose pages then stay in the page cache.
            for entry in sorted((path / "python").iterdir()):
                source, target = stock / entry.name, Path(scratch, entry.name)
                if source.is_dir():
                    shutil.copytree(source, target)
                elif source.is_file():
                    shutil.copy(source, target)
            found["PyTorch as pip installs it"] = chunks.measure(Path(scratch), Path(scratch), interpreter)
    return found


def _rows(measured: "dict[str, TouchedTree]") -> dict[str, dict[str, int]]:
    rows = {name: {"read": tree.chunks(), "all": tree.all_chunks} for name, tree in measured.items()}
    if ours := measured.get("the layer"):
        rows["the layer, in this order"] = {"read": ours.chunks(ours.order()), "all": ours.all_chunks}
    return rows
