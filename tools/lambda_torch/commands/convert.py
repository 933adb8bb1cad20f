"""`lambda-torch convert`: a PyTorch checkpoint in, safetensors out."""

import subprocess
import sys
from pathlib import Path

import click

from lambda_torch import project


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--key",
    help="Where the state dict is in the checkpoint, such as model or ema.state_dict. Without it, the usual places are tried.",
)
@click.option(
    "--drop-others",
    is_flag=True,
    help="Leave out what is no tensor (epoch, optimiser settings); it is refused otherwise.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
def command(source: Path, output: Path, key: str | None, drop_others: bool, force: bool) -> None:
    """Convert the weights in IN (.pth, .pt, .bin, .ckpt) to the safetensors file OUT.

    IN may also be a language model of the llama family, as a GGUF file or a Hugging Face folder. OUT is then a release folder for
    examples/chat; its make_release.py has more options.

    IN is what torch.save wrote: a state dict, or a checkpoint with one inside. It is a pickle, and nothing in it is run: a file
    that names anything but tensors and plain values is refused. OUT is there whole or not at all.

    \b
    Example:
        lambda-torch convert model.pth build/releases/mine/weights.safetensors
    """
    if _is_language_model(source):
        maker = project.ROOT / "examples" / "chat" / "make_release.py"
        raise SystemExit(
            subprocess.call([sys.executable, str(maker), "--checkpoint", str(source), "--output", str(output)])
        )
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("Loading PyTorch"):
        from lambda_torch.checkpoints import read_checkpoint, write_weights

    try:
        if output.exists() and not force:
            raise ValueError(f"{output} is there already. Next: --force, or another name")
        with console.status(f"Reading {source}"):
            checkpoint = read_checkpoint(source, key)
        if checkpoint.others and not drop_others:
            raise ValueError(
                f"{source} holds more than tensors: {_listed(checkpoint.others)}. "
                "Next: --drop-others leaves them out; --key names another place in the checkpoint"
            )
        size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        with console.status(f"Writing {size / 1e6:.1f} MB to {output}"):
            write_weights(output, checkpoint.tensors)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if checkpoint.place:
        beside = f"; beside it are, and are left out: {_listed(checkpoint.beside)}" if checkpoint.beside else ""
        console.print(f"The state dict was found under {checkpoint.place}{beside}.")
    if checkpoint.others:
        console.print(f"Left out, since they are no tensors: {_listed(checkpoint.others)}.")
    for names in checkpoint.shared:
        console.print(f"{', '.join(names)} share memory: each is written in full. Tie them again after loading.")
    console.print(f"{len(checkpoint.tensors)} tensors, {size:,} bytes.")
    click.echo(output)


def _is_language_model(source: Path) -> bool:
    """A Hugging Face folder, or a file that begins as GGUF files do."""
    if source.is_dir():
        return (source / "config.json").is_file()
    try:
        with source.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False  # what follows says that it cannot be read


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
