"""The packages of a model on this machine: installed once into a folder of their own, below build/."""

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import PackagesError
from lambda_torch.packages import modules, resolving
from lambda_torch.packages.modules import ImportPlace

Report = Callable[[str], None]


@dataclass(frozen=True)
class MissingModule:
    """A module that the model imports and that no requirement brings.

    Attributes:
        place: the import.
        file: the requirements file that lacks it.
        line: the line to add there.
        known: whether the name of the distribution is certain.
    """

    place: ImportPlace
    file: Path
    line: str
    known: bool

    def __str__(self) -> str:
        where = f"{_shown(self.place.file)}, line {self.place.line}"
        doubt = "" if self.known else " (or the name under which pip knows it)"
        state = "does not name it" if self.file.is_file() else "does not exist yet"
        return (
            f"{where} imports {self.place.module}, and {_shown(self.file)} {state}. "
            f"Next: add the line {self.line}{doubt} to {_shown(self.file)}."
        )


def requirements_of(folder: Path) -> Path:
    """The requirements file of a model's folder: inside its package `model`. It need not exist."""
    return project.model_package(folder) / resolving.FILE_NAME


def installed(folder: Path, report: Report, build: Path = project.BUILD) -> Path | None:
    """The folder with the model's own packages, installed now if it is not there. None if the model needs none.

    Args:
        folder: the folder with the package `model`.
        report: called with one sentence before pip works.
        build: the folder for what commands make.

    Raises:
        PackagesError: pip cannot install them.
    """
    return installed_from(requirements_of(folder), report, build)


def of_layer(report: Report) -> Path | None:
    """The folder with the packages that a checkout adds to its layer (`layer_list.EXTRA`). None if there are none.

    The layer of a project of the user's own has that project's packages, and no others.

    Raises:
        PackagesError: pip cannot install them.
    """
    return None if project.OWN else installed_from(project.LAYER_SOURCE / "extra-requirements.txt", report)


def are_in(layer: Path | None, packages: Path) -> bool:
    """Whether a built layer has every distribution of a folder of packages, in the same version."""
    if layer is None:
        return False
    there, wanted = ({path.name for path in each.glob("*.dist-info")} for each in (layer / "python", packages))
    return wanted <= there


def installed_from(file: Path, report: Report, build: Path = project.BUILD, shown: Path | None = None) -> Path | None:
    """The folder with what a requirements file names, installed now if it is not there. None if it names nothing.

    Args:
        file: the requirements.
        report: called with one sentence before pip works.
        build: the folder for what commands make.
        shown: the file that the sentence names, for a copy of it.

    Raises:
        PackagesError: pip cannot install it.
    """
    if not resolving.lines_of(file):
        return None
    target = build / "emulator" / f"model-{resolving.key_of(file)}"
    if target.is_dir():
        return target
    report(f"Installing what {_shown(shown or file)} names (once)")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="model-", dir=target.parent))
    try:
        wheels, options = resolving.resolve(file)
        if wheels:
            # Only these: with their dependencies, pip would install torch once more.
            named = [wheel.requirement for wheel in wheels]
            done = resolving.pip(["install", "--no-deps", "--target", str(scratch), *options, *named])
            if done.returncode:
                raise PackagesError(
                    f"pip could not install what {_shown(file)} names: {done.stderr.strip()}\n"
                    f"Next: correct {_shown(file)}, and check the network."
                )
        scratch.chmod(0o755)
        # Another run may have made the same folder in the meantime. A complete folder is never replaced.
        if not target.is_dir():
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def missing(folder: Path, *packages: Path | None) -> list[MissingModule]:
    """The modules that the model imports, and that neither Lambda's function nor these folders of packages have.

    This process may have them all the same: what only the developer's environment has is missing on Lambda.
    """
    file = requirements_of(folder)
    found = []
    for place in modules.foreign_imports(project.model_package(folder)):
        if PathFinder.find_spec(place.module, [str(each) for each in packages if each is not None]) is not None:
            continue
        distribution = modules.distribution_of(place.module)
        found.append(
            MissingModule(
                place, file, distribution + _version_here(distribution), place.module in modules.DISTRIBUTIONS
            )
        )
    return found


def require(folder: Path, report: Report) -> list[Path]:
    """Install the packages of the model and of the layer, and check that the model's files import nothing else.

    Returns:
        The folders with them.

    Raises:
        PackagesError: a module is missing, or pip cannot install a package.
    """
    packages = [each for each in (installed(folder, report), of_layer(report)) if each is not None]
    absent = missing(folder, *packages)
    if absent:
        raise PackagesError("\n".join(map(str, absent)))
    return packages


def use(packages: list[Path]) -> None:
    """Make these folders of packages importable in this process, before all others."""
    for folder in reversed(packages):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()


def _version_here(distribution: str) -> str:
    """`==1.2.3` if this environment has the distribution: what the model was written with is the best proposal."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"=={version(distribution)}"
    except PackageNotFoundError:
        return ""


def _shown(path: Path) -> str:
    """A path as short as it can be, from where the user is."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
