"""The version of lambda-torch that a project names: a number of the package index, or a wheel that lies in the project."""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import ProjectError

PACKAGE = "lambda-torch"
# Where a wheel lies: in each folder that `sam build` copies, because a build sees nothing beside its folder.
WHEELS = ".lambda-torch"
# What the wheel is made from, in a checkout.
_SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "samconfig.toml", "template.yaml")
_FOLDERS = ("src", "tools", "layers", "events", "requirements", "examples/names")


@dataclass(frozen=True)
class Pin:
    """What the project's files name.

    Attributes:
        wheel: the file to put into the project. None if the package index has this version.
    """

    version: str
    wheel: Path | None = None

    @property
    def for_build(self) -> str:
        """For pip in a folder that `sam build` copies."""
        return f"{PACKAGE}=={self.version}" if self.wheel is None else f"{WHEELS}/{self.wheel.name}"

    @property
    def for_people(self) -> str:
        """For pip in the project's folder, with what the commands need."""
        if self.wheel is None:
            return f"{PACKAGE}[serve,torch]=={self.version}"
        return f"./layer/{WHEELS}/{self.wheel.name}[serve,torch]"


def current(folder: Path) -> Pin:
    """The version that runs now. A wheel is made or copied into `folder` if no index has it.

    Raises:
        ProjectError: the wheel cannot be made.
    """
    version = metadata.version(PACKAGE)
    if project.IN_CHECKOUT:
        return Pin(version, _built(folder))
    installed = _installed_from()
    return Pin(version, installed and Path(shutil.copy(installed, folder)))


def _installed_from() -> Path | None:
    """The wheel that pip installed this package from, if it was a file and is still there (PEP 610)."""
    record = metadata.distribution(PACKAGE).read_text("direct_url.json")
    url = urllib.parse.urlsplit(json.loads(record)["url"]) if record else None
    if url is None or url.scheme != "file":
        return None
    path = Path(urllib.request.url2pathname(url.path))
    return path if path.is_file() and path.suffix == ".whl" else None


def _built(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout, so that nothing is left in it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "source"
        copy.mkdir()
        for name in _SOURCES:
            shutil.copy(project.ROOT / name, copy)
        for name in _FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "*.so", "*.o")
            shutil.copytree(project.ROOT / name, copy / name, ignore=ignored)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", "--wheel-dir", str(folder), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("lambda_torch-*.whl"))
    if done.returncode or not found:
        raise ProjectError(
            f"The wheel of this checkout cannot be built:\n{done.stderr.strip()[-2000:]}\n"
            "Next: run make setup in the checkout, and this command again."
        )
    return found[-1]
