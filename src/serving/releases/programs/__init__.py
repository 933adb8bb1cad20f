"""Programs in releases, TorchScript and `torch.export` archives: what is in one before torch reads it.

Both are zip archives that torch reads by itself, and both can hold far more than a network: Python pickles, operators that write files
or leave their memory, texts that are evaluated. So what is let through is described here, from the bytes of the archive
(`archive`) to its pickles (`pickles`), texts (`schema`, `expressions`, `script_text`) and operators (`operators`); all else is refused.
Nothing here imports torch. What torch then really read is compared with the same tables in `seen`, in a process of its own.
"""

from pathlib import Path
from typing import Literal

from serving.releases.programs.errors import ProgramError

Kind = Literal["torchscript", "torch.export"]

__all__ = ["Kind", "ProgramError", "check"]


def check(path: Path, kind: Kind) -> None:
    """Look through a program before torch loads it.

    Raises:
        ProgramError: it is no such program, or has something in it that is not let through.
    """
    from serving.releases.programs.archive import Archive

    try:
        archive = Archive.of(path)
        if kind == "torch.export":
            from serving.releases.programs import exported

            exported.check(archive)
        else:
            from serving.releases.programs import torchscript

            torchscript.check(archive)
    except RecursionError as error:
        raise ProgramError("nests too deeply") from error
