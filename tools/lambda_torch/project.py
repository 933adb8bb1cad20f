"""Where the project's files are, and how the tools import the function's own code.

There are two cases. In a checkout (`make setup` installs the package in editable form) everything is below the root of
the checkout. From an installed wheel, the function's and the builder's code lie in the folder `_app` beside this file,
in the layout of a checkout; the commands that need more than that ask for a checkout (`need_checkout`).

A user's own project is a folder with a package `model` and a template, as `lambda-torch init` makes it. In such a
folder the commands use that model, and put what they make below the folder's own build/.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

from lambda_torch.errors import NeedsCheckoutError

_INSTALLED = Path(__file__).with_name("_app")
IN_CHECKOUT = not _INSTALLED.is_dir()

ROOT = Path(__file__).resolve().parents[2] if IN_CHECKOUT else _INSTALLED
SRC = ROOT / "src"
EVENTS = ROOT / "events"
TEMPLATE = ROOT / "template.yaml"
LAYER_SOURCE = ROOT / "layers" / "torch"


def own_folder(folder: Path) -> Path | None:
    """The folder itself if it is a user's own project, else None."""
    is_own = (folder / "model" / "__init__.py").is_file() and (folder / TEMPLATE.name).is_file()
    return folder.resolve() if is_own else None


# The user's own project, if the command runs in one.
OWN = own_folder(Path.cwd())

# Everything that a command makes goes below this folder; `make clean` removes it.
BUILD = (OWN or (ROOT if IN_CHECKOUT else Path.cwd())) / "build"
RELEASE = BUILD / "release"
# The trained release of the sample model, which comes with the project, and its golden examples.
SAMPLE_RELEASE = ROOT / "examples" / "names" / "release"
SAMPLE_GOLDEN = ROOT / "examples" / "names" / "golden.json"
LAYER = BUILD / "layer"
# What `sam build` leaves of the layer in the user's own project.
SAM_LAYER = Path.cwd() / ".aws-sam" / "build" / "TorchLayer"


def layer() -> Path | None:
    """A built layer: of this folder, of the last `sam build` if it was for this Python, or of the checkout."""
    tag = f"cpython-{sys.version_info[0]}{sys.version_info[1]}-"
    of_sam = SAM_LAYER if OWN and any(SAM_LAYER.glob(f"python/torch/_C.{tag}*.so")) else None
    of_checkout = ROOT / "build" / "layer" if OWN and IN_CHECKOUT else None
    candidates = [folder for folder in (LAYER, of_sam, of_checkout) if folder is not None]
    return next((folder for folder in candidates if (folder / "python").is_dir()), None)


def has_sample_model() -> bool:
    """Whether src/model is still the sample model, and no model of the user's own."""
    return all((SRC / "model" / name).is_file() for name in ("names.py", "network.py", "decoding.py"))


def need_checkout(what: str) -> None:
    """Check that the project's files are there.

    Args:
        what: the command, for the message.

    Raises:
        NeedsCheckoutError: only the package is installed.
    """
    if not IN_CHECKOUT:
        raise NeedsCheckoutError(
            f"{what} needs the project's files, and only the package is installed. "
            "Next: get the project's source (git clone), run `make setup` there, and use its .venv/bin/lambda-torch."
        )


def install_hint(extra: str) -> str:
    """The command that installs what an extra of the package brings."""
    return "make setup" if IN_CHECKOUT else f"pip install 'lambda-torch[{extra}]'"


def use_builder() -> None:
    """Make the layer's builder importable as `builder`, and its run-time half as `torch_layer`."""
    _first_on_path(LAYER_SOURCE)


def use_function_code(model: Path | None = None) -> None:
    """Make `model` and `serving` (the function's packages in src/) importable, as Lambda does with its task root.

    Args:
        model: a folder whose package `model` replaces src/model. Other files of that folder are not importable, as in
            the function. None changes nothing.

    Raises:
        ValueError: the folder has no such package.
        RuntimeError: another `model` is in use already. One process uses one.
    """
    _first_on_path(SRC)
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


def model_in_use() -> Path:
    """The folder of the package `model` that an import gives."""
    finder = next((each for each in sys.meta_path if isinstance(each, _ModelFinder)), None)
    return SRC / "model" if finder is None else finder.package


def _first_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


class _ModelFinder:
    """Finds the package `model` in one place, before any path is searched."""

    def __init__(self, package: Path) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The spec of `model`. None for any other name."""
        if name != "model":
            return None
        return spec_from_file_location(
            name, self.package / "__init__.py", submodule_search_locations=[str(self.package)]
        )
