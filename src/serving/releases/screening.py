"""What the files of a release may be: data. Pickles are refused, and programs unless the manifest declares them."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from serving.releases.format import FileEntry

# How files that would run code begin.
_ARCHIVE = (b"PK\x03\x04", b"PK\x05\x06")
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Pickles of protocols 0 and 1 begin like text; so their usual names are refused.
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib")


def check(folder: Path, files: Mapping[str, FileEntry]) -> None:
    """Look at every file of an unpacked release before any code of a model does.

    Raises:
        ValueError: a file is a pickle, an archive that the manifest does not declare as a program, or a program that may not be
            loaded; the message names the file and the next step.
    """
    for name, entry in files.items():
        path = folder / PurePosixPath(name)
        if entry.format is not None:
            from serving.releases import programs  # few releases have any

            try:
                programs.check(path, entry.format)
            except programs.ProgramError as error:
                raise ValueError(f"{name} {error}") from error
            continue
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(_PICKLES) or name.endswith(_PICKLE_SUFFIXES):
            raise ValueError(
                f"{name} is a pickle, and none is opened here. Next: lambda-torch convert makes safetensors of it"
            )
        if start in _ARCHIVE:
            raise ValueError(
                f"{name} is an archive that may hold a pickle, and the manifest does not declare it as a program. "
                "Next: for weights, lambda-torch convert; a program is named *.pt2 (torch.export) or *.torchscript"
            )
