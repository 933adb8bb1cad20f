"""The way in: what is in a program, before torch reads it."""

from pathlib import Path

from serving.releases.programs import exported, torchscript
from serving.releases.programs.archive import Archive
from serving.releases.programs.refusal import Kind, ProgramError


def check_program(path: Path, kind: Kind) -> None:
    """Look through a program before torch loads it.

    Raises:
        ProgramError: it is no such program, or has something in it that is not let through.
    """
    try:
        archive = Archive.of(path)
        if kind == "torch.export":
            exported.check(archive)
        else:
            torchscript.check(archive)
    except RecursionError as error:
        raise ProgramError("nests too deeply") from error
