"""The packages that a user adds to the layer: the list of them, what pip finds for it, and what they take in the layer.

In a project of the user's own the list is model/requirements.txt, which the model's code needs in any case. In a checkout
it is layers/torch/extra-requirements.txt.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lambda_torch import project
from lambda_torch.errors import PackagesError
from lambda_torch.packages import local, resolving
from lambda_torch.packages.resolving import ModelWheel

if TYPE_CHECKING:
    from builder.account.forecast import Forecast

EXTRA = project.LAYER_SOURCE / "extra-requirements.txt"
_HEAD = "# What goes into the layer beside torch and NumPy. `lambda-torch layer add` and `remove` change this file.\n"
# The beginning of a requirement (PEP 508): a name, and perhaps extras in brackets.
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^]]*\])?")


class ListedPackage(NamedTuple):
    """A distribution that the list brings.

    Attributes:
        name: as PEP 503 writes it.
        version: its version.
        place: `layer` or `function`.
        bytes: what its files take, as pip installs them.
        in_layer: what they will take in the layer, by the builder's forecast. 0 for those of the function.
        asked: the list names it; the others are required by those.
    """

    name: str
    version: str
    place: str
    bytes: int
    in_layer: int
    asked: bool


def file() -> Path:
    """The list's file. It need not exist."""
    return EXTRA if project.OWN is None else project.OWN / "model" / resolving.FILE_NAME


def name_of(requirement: str) -> str:
    """The normalised name in a requirement, `tokenizers` for `Tokenizers>=0.20`.

    Raises:
        PackagesError: it begins with no name.
    """
    found = _REQUIREMENT.match(requirement)
    if found is None:
        raise PackagesError(
            f"{requirement!r} is not the name of a package. Next: give a name, or a name and a version: name==1.2.3"
        )
    return resolving.normalised(found[1])


def add(requirements: Iterable[str], report: local.Report) -> list[ListedPackage]:
    """Write requirements into the list, after pip has found and installed all of it here.

    A requirement without a version gets that which pip has found. A name that the list has already is replaced.

    Raises:
        PackagesError: there is no wheel for this Python and processor, the packages do not fit to the layer's, or the
            layer cannot hold one. The list is as it was.
    """
    lines = resolving.lines_of(file())
    for requirement in requirements:
        name = name_of(requirement)
        if name in resolving.provided():
            raise PackagesError(f"{name} is in the layer or in the function already. Next: leave it out.")
        lines = [*(line for line in lines if name_of(line) != name), requirement.strip()]
    return _try_and_write(lines, report)


def remove(names: Iterable[str], report: local.Report) -> list[ListedPackage]:
    """Take packages out of the list. What only they required goes with them.

    Raises:
        PackagesError: the list does not name one of them.
    """
    lines = resolving.lines_of(file())
    for each in names:
        name = name_of(each)
        rest = [line for line in lines if name_of(line) != name]
        if len(rest) == len(lines):
            there = ", ".join(map(name_of, lines)) or "nothing"
            raise PackagesError(f"{file()} does not name {name}: it names {there}. Next: give one of these names.")
        lines = rest
    return _try_and_write(lines, report)


def listed(report: local.Report) -> list[ListedPackage]:
    """All that the list brings, installed here if it is not."""
    folder = local.installed_from(file(), report)
    return _describe(file(), folder)


def _try_and_write(lines: list[str], report: local.Report) -> list[ListedPackage]:
    target = file()
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / target.name
        trial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        wheels, _ = resolving.resolve(trial, only_wheels=True, shown=target)
        versions = {wheel.name: wheel.requirement for wheel in wheels}
        # `name` alone would be another version at the next build.
        pinned = [versions.get(name_of(line), line) if _is_bare(line) else line for line in lines]
        trial.write_text("".join(f"{line}\n" for line in pinned), encoding="utf-8")
        folder = local.installed_from(trial, report, shown=target)
        if folder is not None:
            _require_loadable(folder)
        described = _describe(trial, folder)
    head = _comments(target) or (_HEAD if target == EXTRA else "")
    if pinned or target != EXTRA:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(head + "".join(f"{line}\n" for line in pinned), encoding="utf-8")
    else:
        target.unlink(missing_ok=True)
    return described


def _is_bare(line: str) -> bool:
    found = _REQUIREMENT.match(line)
    return found is not None and found.end() == len(line) and not found[2]


def _comments(target: Path) -> str:
    if not target.is_file():
        return ""
    return "".join(
        f"{line}\n" for line in target.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("#")
    )


def _require_loadable(folder: Path) -> None:
    """Refuse what the builder would refuse, before a build. Raises PackagesError."""
    project.use_builder()
    from builder.errors import BuildError
    from builder.stage import install, loadable, policy

    try:
        policy.refuse_forbidden(set(_owners(folder).values()))
        loadable.require_loadable(folder, install.owners_of(folder), policy.running_runtime(), policy.running_machine())
    except BuildError as error:
        raise PackagesError(str(error)) from error


def _describe(requirements: Path, folder: Path | None) -> list[ListedPackage]:
    """What the folder, into which a list was installed, will take."""
    if folder is None:
        return []
    from lambda_torch.scaffold import build_files

    wheels: list[ModelWheel] = resolving.resolve(requirements)[0]
    place = "layer" if project.OWN is None else build_files.place_of(wheels)
    asked = {name_of(line) for line in resolving.lines_of(requirements)}
    owners = _owners(folder)
    sizes: dict[str, int] = {}
    for path, owner in owners.items():
        file = folder / path
        if file.is_file() and "__pycache__" not in file.parts:
            sizes[owner] = sizes.get(owner, 0) + file.stat().st_size
    expected: dict[str, int] = {}
    if place == "layer":
        of_folder = {path.partition("/")[0]: owner for path, owner in owners.items()}
        for package, size in forecast_of(folder).packages:
            owner = of_folder.get(package, of_folder.get(f"{package}.py", resolving.normalised(package)))
            expected[owner] = expected.get(owner, 0) + size
    return [
        ListedPackage(
            wheel.name,
            wheel.version,
            place,
            sizes.get(wheel.name, 0),
            expected.get(wheel.name, 0),
            wheel.name in asked,
        )
        for wheel in wheels
    ]


def forecast_of(folder: Path) -> "Forecast":
    """The builder's forecast for a folder of packages alone: without torch, and without its own run-time half."""
    project.use_builder()
    from builder.account import forecast

    with tempfile.TemporaryDirectory() as scratch:
        # The forecast adds bytecode itself, so it must not see that of this machine.
        plain = Path(scratch) / "python"
        shutil.copytree(folder, plain, ignore=shutil.ignore_patterns("__pycache__"))
        found = forecast.forecast(plain, None)
    own = forecast.RUN_TIME_BYTES
    packages = tuple((name, size) for name, size in found.packages if name != "torch_layer")
    return found._replace(likely=max(found.likely - own, 0), least=max(found.least - own, 0), packages=packages)


def _owners(folder: Path) -> dict[str, str]:
    """The normalised name of the distribution that owns each path, from the RECORD files."""
    project.use_builder()
    from builder.stage import install

    return {path: resolving.normalised(owner.partition(" ")[0]) for path, owner in install.owners_of(folder).items()}
