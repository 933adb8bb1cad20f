"""The files that `sam build` reads in a project, written from requirements.txt of its model."""

import shutil
import tempfile
from pathlib import Path

from lambda_torch.errors import ProjectError
from lambda_torch.packages import resolving
from lambda_torch.packages.resolving import ModelWheel
from lambda_torch.scaffold import files
from lambda_torch.scaffold.pin import WHEELS
from lambda_torch.several import model_table

LIST_HEAD = """\
# What goes into the layer beside torch and NumPy. lambda-torch writes this file from model/requirements.txt: change that.
"""


def contents(folder: Path, wanted: str) -> dict[str, str]:
    """The text of each build file, by its path in the project.

    Args:
        folder: the project.
        wanted: what pip shall install for lambda-torch itself.

    Raises:
        PackagesError: pip cannot resolve requirements.txt.
        ProjectError: a folder of a model in models.toml has no package `model`.
    """
    # The layer is one for all models, so their packages have to fit together.
    codes = ["", *code_folders(folder)]
    requirements = {code: folder / code / "model" / resolving.FILE_NAME for code in codes}
    lines = [line for file in requirements.values() for line in resolving.lines_of(file)]
    with tempfile.TemporaryDirectory() as scratch:
        together = Path(scratch) / resolving.FILE_NAME
        together.write_text("".join(f"{line}\n" for line in dict.fromkeys(lines)), encoding="utf-8")
        wheels, _ = resolving.resolve(requirements[""] if len(codes) == 1 else together)
    place = place_of(wheels)
    listed = "".join(f"{wheel.requirement}\n" for wheel in wheels) if place == "layer" else ""
    values = {"LAMBDA_TORCH_BUILD": wanted, "PACKAGES": place}
    made = {
        f"{code}/model/Makefile".removeprefix("/"): files.text(
            "any", "Makefile-function.txt", {**values, "REQUIREMENTS_KEY": resolving.digest_of(file)}
        )
        for code, file in requirements.items()
    }
    return {
        **made,
        "layer/Makefile": files.text("any", "Makefile-layer.txt", values),
        "layer/requirements.txt": LIST_HEAD + listed,
    }


def code_folders(folder: Path) -> list[str]:
    """The folders of models that have code of their own, in a stack with several.

    Raises:
        ProjectError: one of them has no package `model`.
    """
    table = model_table.find(folder)
    codes = list(dict.fromkeys(row.code for row in table.rows if row.code)) if table else []
    for code in codes:
        if not (folder / code / "model" / "__init__.py").is_file():
            raise ProjectError(
                f"{folder / code} has no package model (model/__init__.py), and {model_table.FILE_NAME} names it as code.\n"
                f"Next: make it, for example with lambda-torch init in another folder, and copy model/ and release/."
            )
    return codes


def place_of(wheels: list[ModelWheel]) -> str:
    """Where the packages of a model go: all of them into the layer if one has compiled code, else into the function.

    The layer compresses code that is not used, and is built rarely. Pure Python is small, and a build of the function
    takes seconds.
    """
    if not wheels:
        return "nothing"
    return "layer" if any(wheel.native for wheel in wheels) else "function"


def refresh(folder: Path) -> list[str]:
    """Write the build files of a project again if a requirements.txt has changed since they were written.

    Args:
        folder: the project, or the folder of one of its models.

    Returns:
        The files that have changed.

    Raises:
        PackagesError: pip cannot resolve requirements.txt.
        ProjectError: a folder of a model in models.toml has no package `model`.
    """
    folder = _root(folder)
    if not (folder / "model" / "Makefile").is_file():
        return []
    values = _values(folder / "model")
    codes = code_folders(folder)
    if all(
        _values(folder / code / "model").get("REQUIREMENTS")
        == resolving.digest_of(folder / code / "model" / resolving.FILE_NAME)
        for code in ("", *codes)
    ):
        return []
    wheels = folder / "model" / WHEELS
    changed = []
    for code in codes:
        if wheels.is_dir():
            shutil.copytree(wheels, folder / code / "model" / WHEELS, dirs_exist_ok=True)
    for name, text in contents(folder, values["LAMBDA_TORCH"]).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def _root(folder: Path) -> Path:
    """The project that a folder is, or belongs to as the code of a model."""
    for each in (folder, *folder.resolve().parents):
        if (each / "layer" / "Makefile").is_file():
            table = model_table.find(each)
            is_code = table is not None and folder.resolve() in [table.folder(row) for row in table.rows]
            return each if each == folder or is_code else folder
    return folder


def _values(model: Path) -> dict[str, str]:
    """What the Makefile of a package `model` has. Empty if there is none."""
    makefile = model / "Makefile"
    if not makefile.is_file():
        return {}
    lines = makefile.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" := ", 1) for line in lines if " := " in line)
