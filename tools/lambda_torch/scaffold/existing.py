"""Blueprints for models that exist: `lambda-torch init --from`.

| from | what the project holds |
|---|---|
| `torchvision:NAME` | code that makes the architecture by torchvision, and weights |
| `hf:FOLDER` | code that loads the folder by transformers, and the folder's files |
| a `torch.export` program | the program, and code that calls it |
| TorchScript | the same |
| a state dict, with the class of its network | the class's file, and the weights as safetensors |
"""

import re
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

from lambda_torch.errors import ProjectError
from lambda_torch.scaffold.blueprints import Blueprint


class Hints(NamedTuple):
    """What the user says about the model, beside where it is.

    Attributes:
        module: `FILE.py:CLASS`.
        shape: the shape of one input, without the batch.
    """

    module: str | None = None
    shape: tuple[int, ...] | None = None


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """The shape in the option --input. None without one.

    Raises:
        ProjectError: it is no shape.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5}){0,7}", text.replace(" ", "")):
        raise ProjectError(f"--input {text} is no shape. Next: give whole numbers with commas, such as 3,224,224.")
    return tuple(map(int, text.split(",")))


def blueprint(source: str, hints: Hints, scratch: Path) -> Blueprint:
    """The project for a source, as the user names it.

    Args:
        source: `torchvision:NAME`, `hf:FOLDER`, or a file.
        hints: what the user says beside that.
        scratch: a folder for files that are made for the release.

    Raises:
        ProjectError: there is no such model, or it cannot be served as it is.
    """
    kind, separator, name = source.partition(":")
    if separator and kind == "torchvision":
        from lambda_torch.scaffold import torchvision_models

        return torchvision_models.blueprint(name)
    if separator and kind == "hf":
        from lambda_torch.scaffold import hugging_face

        return hugging_face.blueprint(Path(name))
    path = Path(source)
    if path.is_dir() and (path / "config.json").is_file():
        raise ProjectError(f"{source} is a folder from Hugging Face. Next: --from hf:{source}")
    if not path.is_file():
        raise ProjectError(
            f"{source} is no file. Next: give a file, torchvision:NAME (such as torchvision:resnet18), or hf:FOLDER."
        )
    from lambda_torch.scaffold import programs, state_dicts

    program = _program_kind(path)
    if program is not None:
        return programs.blueprint(path, program, hints.shape, scratch)
    return state_dicts.blueprint(path, hints.module, hints.shape, scratch)


def _program_kind(path: Path) -> Literal["torch.export", "torchscript"] | None:
    """The kind of program that a file is, by the names in its archive. None for all others."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return None
    if any(re.fullmatch(r"(models/[^/]+\.json|serialized_exported_program\.json)", name) for name in names):
        return "torch.export"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    return None
