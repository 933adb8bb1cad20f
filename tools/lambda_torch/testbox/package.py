"""The function's package, as `sam build` makes it, for test boxes without a build."""

import compileall
import py_compile
import shutil
from pathlib import Path

from lambda_torch import project

# The files that src/Makefile leaves out, and Python's cache for this machine.
_NOT_DEPLOYED = shutil.ignore_patterns("Makefile", "requirements.in", "requirements.txt", "__pycache__")


def package(requirements: Path, folder: Path, model: Path | None = None) -> Path:
    """Make `folder` from src/ and the installed requirements, with bytecode, and return it.

    Args:
        requirements: the folder where they are installed.
        folder: the folder to make.
        model: a package that replaces src/model.
    """
    shutil.copytree(requirements, folder, ignore=_NOT_DEPLOYED)
    shutil.copytree(project.SRC, folder, dirs_exist_ok=True, ignore=_NOT_DEPLOYED)
    if model is not None:
        shutil.rmtree(folder / "model")
        shutil.copytree(model, folder / "model", ignore=_NOT_DEPLOYED)
    compile_all(folder, "/var/task")
    return folder


def compile_all(folder: Path, mounted: str) -> None:
    """Compile a tree for the place where it will be mounted. The bytecode is valid for any dates of the files."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, stripdir=str(folder), prependdir=mounted, invalidation_mode=unchecked)
