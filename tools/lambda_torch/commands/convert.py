"""`lambda-torch convert`: make a safetensors file of a PyTorch checkpoint."""

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
    help="Where the state dict is in the checkpoint, such as model or ema.state_dict. Default: the usual places.",
)
@click.option(
    "--drop-others",
    is_flag=True,
    help="Leave out what is not a tensor (epoch, optimiser settings). Otherwise it is an error.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def command(source: Path, output: Path, key: str | None, drop_others: bool, force: bool) -> None:
    """Convert the weights in IN (.pth, .pt, .bin, .ckpt) to the safetensors file OUT.

    IN is a file that torch.save wrote: a state dict, or a checkpoint that contains one. It is a pickle, and this
    command runs no code from it: a file that names more than tensors and plain values is refused. OUT is written
    completely or not at all.

    IN may also be a language model of the llama family: a GGUF file, or a folder from Hugging Face. Then OUT is a
    release folder for examples/chat. Its make_release.py has more options.

    \b
    Example:
        lambda-torch convert model.pth build/releases/mine/weights.safetensors
    """
    if _is_language_model(source):
        project.need_checkout("lambda-torch convert of a language model")
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
            raise ValueError(f"{output} exists already. Next: use --force, or another name")
        with console.status(f"Reading {source}"):
            checkpoint = read_checkpoint(source, key)
        if checkpoint.others and not drop_others:
            raise ValueError(
                f"{source} holds more than tensors: {_listed(checkpoint.others)}. "
                "Next: use --drop-others to leave them out, or --key to name another place in the checkpoint"
            )
        size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        with console.status(f"Writing {size / 1e6:.1f} MB to {output}"):
            write_weights(output, checkpoint.tensors)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if checkpoint.place:
        beside = f" Left out: {_listed(checkpoint.beside)}." if checkpoint.beside else ""
        console.print(f"The state dict is under {checkpoint.place}.{beside}")
    if checkpoint.others:
        console.print(f"Left out, because they are not tensors: {_listed(checkpoint.others)}.")
    for names in checkpoint.shared:
        console.print(f"{', '.join(names)} share memory. Each is written in full: tie them again after you load them.")
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
