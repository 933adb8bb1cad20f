"""What the files of a release may be: data. Pickles are refused, and programs unless they are declared and allowed."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from serving.releases.format import FileEntry

# How files that would run code begin.
_ARCHIVE: Final = (b"PK\x03\x04", b"PK\x05\x06")
_PICKLES: Final = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Pickles of protocols 0 and 1 begin like text; so their usual names are refused.
_PICKLE_SUFFIXES: Final = (".pkl", ".pickle", ".joblib")

# The largest header that safetensors itself reads (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
_LARGEST_HEADER: Final = 100_000_000
_LENGTH: Final = struct.Struct("<Q")


def check(folder: Path, files: Mapping[str, FileEntry], *, allow_programs: bool = False) -> None:
    """Look at every file of an unpacked release before any code of a model does.

    Args:
        folder: the release.
        files: its files, as the manifest lists them.
        allow_programs: whether files may be programs. Those that are allowed are still looked through.

    Raises:
        ValueError: a file is a pickle, an archive that the manifest does not declare as a program, a program where none
            is allowed, or a program that does not pass its checks. The message names the file and the next step.
    """
    for name, entry in files.items():
        path = folder / PurePosixPath(name)
        if entry.format is not None:
            if not allow_programs:
                raise ValueError(
                    f"{name} is a program ({entry.format}), and this function takes none. Next: publish the weights as "
                    "safetensors with the network in src/model, or set the stack's parameter AllowPrograms "
                    "(the variable ALLOW_PROGRAMS) to true; docs/threat-model.md says what that means"
                )
            from serving.releases.programs.check import check_program  # few releases have any
            from serving.releases.programs.refusal import ProgramError

            try:
                check_program(path, entry.format)
            except ProgramError as error:
                raise ValueError(f"{name} {error}") from error
            continue
        with path.open("rb") as file:
            start = file.read(9)
            # The length of a safetensors header can look like the beginning of a pickle: the structure decides.
            if _begins_as_safetensors(start):
                _check_safetensors(name, file, path.stat().st_size)
                continue
        if start.startswith(_PICKLES) or name.endswith(_PICKLE_SUFFIXES):
            raise ValueError(
                f"{name} is a pickle, and none is opened here. Next: lambda-torch convert makes safetensors of it"
            )
        if name.endswith(".safetensors"):
            raise ValueError(f"{name} is not a safetensors file: it does not begin with a length and a header")
        if start[:4] in _ARCHIVE:
            raise ValueError(
                f"{name} is an archive that may hold a pickle, and the manifest does not declare it as a program. "
                "Next: for weights, lambda-torch convert; a program is named *.pt2 (torch.export) or *.torchscript"
            )


def _begins_as_safetensors(start: bytes) -> bool:
    """Eight bytes of length that a header can have, and `{`. No pickle and no archive goes on as the header then says."""
    return len(start) == 9 and start[8:] == b"{" and 2 <= _LENGTH.unpack(start[:8])[0] <= _LARGEST_HEADER


def _check_safetensors(name: str, file: BinaryIO, size: int) -> None:
    """The header is JSON, and its tensors fill the rest of the file without a gap and without overlap (the format's own
    rules).

    Raises:
        ValueError: it is not so.
    """
    file.seek(0)
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    try:
        header = json.loads(file.read(length))
        ranges = sorted(_offsets(entry) for key, entry in header.items() if key != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is not a whole safetensors file: its header cannot be read") from error
    end = 0
    for first, last in ranges:
        if first != end or last < first:
            raise ValueError(f"{name} is not a whole safetensors file: its tensors overlap, or leave bytes out")
        end = last
    described = _LENGTH.size + length + end
    if described != size:
        raise ValueError(f"{name} is not a whole safetensors file: its header describes {described} bytes of {size}")


def _offsets(entry: Any) -> tuple[int, int]:
    first, last = entry["data_offsets"]
    if type(first) is not int or type(last) is not int:
        raise TypeError("an offset is no number")
    return first, last
