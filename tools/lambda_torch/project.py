"""Where things are in a checkout, and how the function's own code is reached from the tools.

The tools run from a checkout (`pip install -e .`), never from a wheel: they build, serve and publish what lies beside them.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
EVENTS = ROOT / "events"
TEMPLATE = ROOT / "template.yaml"
LAYER_SOURCE = ROOT / "layers" / "torch"

# Everything that a command makes goes below here; `make clean` removes it.
BUILD = ROOT / "build"
RELEASE = BUILD / "release"
LAYER = BUILD / "layer"


def use_function_code(model: Path | None = None) -> None:
    """Make `model` and `serving` (the function's packages in src/) importable, as Lambda does with its task root.

    Args:
        model: a folder whose package `model` takes the place of src/model, and nothing else of it: what lies beside that package
            is not importable, as it is not in the function. None changes nothing.

    Raises:
        ValueError: the folder has no such package.
        RuntimeError: another `model` is in use already; one process serves one.
    """
    if str(SRC) not in sys.path:
        sys.path.insert(0, str(SRC))
    if model is None:
        return
    finder = _ModelFinder(model_package(model))
    used = sys.modules.get("model")
    if used is not None and Path(used.__file__ or "").resolve().parent != finder.package:
        raise RuntimeError(f"{used.__file__} is in use already, so {model} cannot be")
    sys.meta_path[:] = [finder, *(each for each in sys.meta_path if not isinstance(each, _ModelFinder))]


def model_package(folder: Path) -> Path:
    """The package `model` in the folder that `--model` names.

    Raises:
        ValueError: there is none.
    """
    package = folder.resolve() / "model"
    if not (package / "__init__.py").is_file():
        beside = f" Did you mean {folder.parent}?" if folder.name == "model" else ""
        raise ValueError(f"{folder} has no package model (model/__init__.py with Model, Request and Response).{beside}")
    return package


class _ModelFinder:
    """Finds the package `model` in one place, before any path is looked at."""

    def __init__(self, package: Path) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The spec of `model`; None for any other name."""
        if name != "model":
            return None
        return spec_from_file_location(
            name, self.package / "__init__.py", submodule_search_locations=[str(self.package)]
        )
