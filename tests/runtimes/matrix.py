"""Builds, verifies and tries the layer on other Pythons and other versions of torch, and prints a table of what was run.

    python -m runtimes.matrix                                  # CPython 3.12 and 3.13, torch 2.13.0
    python -m runtimes.matrix --python 3.13 --torch 2.13.0     # one cell

Each cell has a folder of its own in build/runtimes: an environment, the layer, the logs. What is there already is used again.
Where PyTorch's own index cannot be reached, `runtimes.cpu_wheel` makes the wheel of torch. The results go to
build/runtimes/matrix.json, and a cell that is not run keeps its last result there.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lambda_torch.project import BUILD, ROOT
from runtimes import cpu_wheel

PYTHONS = ("3.12", "3.13")
TORCHES = ("2.13.0",)
# Beside the layer's own tests, what the function does in Lambda's emulator, on this Python. The pager is C, so one Python is
# enough for its tests.
TESTS = ("tests/integration/layer", "--ignore=tests/integration/layer/pager", "tests/integration/start")
FOLDER = BUILD / "runtimes"
REQUIREMENTS = ROOT / "layers" / "torch" / "requirements.txt"


class CellError(Exception):
    """A cell cannot be run; the message says why and what to do."""


class MissingError(CellError):
    """This machine lacks the Python, or a wheel of torch for it."""


@dataclass
class Cell:
    """One pair of versions, and what was seen.

    Attributes:
        torch: torch's version, without a local part.
        python: The Python's, `3.13`.
        date: When it was run, `2026-11-29`.
        unzipped_bytes: The layer's size.
        build_seconds: How long the build with its verification took.
        tests: pytest's last line.
        problem: Why there is no result; None where there is one.
    """

    torch: str
    python: str
    date: str = ""
    unzipped_bytes: int = 0
    build_seconds: float = 0.0
    tests: str = ""
    problem: str | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this cell is."""
        return FOLDER / f"torch-{self.torch}-python{self.python}"


def interpreter(version: str) -> Path:
    """The newest interpreter of that version: on PATH, or among pyenv's.

    Raises:
        MissingError: there is none.
    """
    found = shutil.which(f"python{version}")
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(root.glob(f"versions/{version}.*/bin/python{version}"), key=lambda path: _numbers(path.parts[-3]))
    candidates = [*reversed(of_pyenv), *([Path(found)] if found else [])]
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", "import ssl, venv"], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    raise MissingError(f"There is no CPython {version}. Next: install it (Debian: python{version}-venv; or pyenv)")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def requirements_of(cell: Cell) -> Path:
    """The layer's requirements with the cell's torch."""
    text = re.sub(r"(?m)^torch==\S+$", f"torch=={cell.torch}+cpu", REQUIREMENTS.read_text())
    cell.folder.mkdir(parents=True, exist_ok=True)
    path = cell.folder / "requirements.txt"
    path.write_text(text)
    return path


def environment_of(cell: Cell) -> tuple[Path, dict[str, str]]:
    """The cell's interpreter with all packages, and the environment variables by which pip finds torch.

    Raises:
        MissingError: there is no wheel of torch for this Python.
        CellError: pip fails; the message is its own.
    """
    python = cell.folder / "venv" / "bin" / "python"
    requirements = requirements_of(cell)
    variables = dict(os.environ)
    if not _torch_can_be_had(cell, requirements):
        wheels = FOLDER / "wheels"
        try:
            cpu_wheel.make(cell.torch, cell.python, wheels, _base_wheel(cell.torch), wheels / "downloads")
        except cpu_wheel.WheelError as error:
            raise MissingError(str(error)) from error
        variables["PIP_FIND_LINKS"] = f"{wheels} {variables.get('PIP_FIND_LINKS', '')}".strip()
    ready = cell.folder / "venv" / ".ready"
    stamp = requirements.read_text() + (ROOT / "requirements" / "dev.txt").read_text()
    if not (ready.is_file() and ready.read_text() == stamp):
        shutil.rmtree(cell.folder / "venv", ignore_errors=True)
        _run([interpreter(cell.python), "-m", "venv", cell.folder / "venv"], cell.folder / "venv.log", variables)
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        for file in (ROOT / "requirements" / "dev.txt", requirements):
            _run([*install, "--requirement", file], cell.folder / "venv.log", variables)
        _run([*install, "--no-build-isolation", "--no-deps", "--editable", ROOT], cell.folder / "venv.log", variables)
        ready.write_text(stamp)
    return python, variables


def _torch_can_be_had(cell: Cell, requirements: Path) -> bool:
    """Whether pip finds a real CPU wheel for the cell's Python, by its own configuration."""
    line = next(line for line in requirements.read_text().splitlines() if line.startswith("torch=="))
    with_options = ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--quiet"]
    target = ["--python-version", cell.python, "--target", str(cell.folder / "nowhere"), line]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *with_options, *target]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _base_wheel(version: str) -> Path | None:
    """A CPU wheel of that torch for the Python that runs this, if pip has one."""
    folder = FOLDER / "wheels" / "base"
    name = f"torch-{version}+cpu-*.whl"
    if not list(folder.glob(name)):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, f"torch=={version}+cpu"], capture_output=True, check=False)
    return next(iter(sorted(folder.glob(name))), None)


def _run(command: Sequence[object], log: Path, variables: Mapping[str, str], folder: Path = ROOT) -> None:
    """Run a command whose output goes to the end of a log.

    Raises:
        CellError: it fails; the message has the log's last lines.
    """
    with log.open("a") as output:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=folder,
            check=False,
        )
    if done.returncode:
        last = "\n  ".join(log.read_text().splitlines()[-8:])
        raise CellError(f"{Path(str(command[0])).name} failed:\n  {last}\nNext: see {log}")


def build(cell: Cell, python: Path, variables: Mapping[str, str]) -> None:
    """Build and verify the layer, with the committed profiles.

    Raises:
        CellError: the builder refuses; the message is its own.
    """
    log = cell.folder / "build.log"
    log.unlink(missing_ok=True)
    options = ["--output", cell.folder / "layer", "--zip", cell.folder / "layer.zip", "--work", cell.folder / "cache"]
    options += ["--report", cell.folder / "report.json", "--requirements", requirements_of(cell)]
    started = time.monotonic()
    _run([python, "-m", "builder", *options], log, variables, ROOT / "layers" / "torch")
    cell.build_seconds = round(time.monotonic() - started, 1)
    cell.unzipped_bytes = json.loads((cell.folder / "report.json").read_text())["unzipped_bytes"]


def run_tests(cell: Cell, python: Path, variables: Mapping[str, str]) -> None:
    """Run the tests of the layer and of the function on the cell's Python.

    Raises:
        CellError: a test fails.
    """
    log = cell.folder / "tests.log"
    log.unlink(missing_ok=True)
    of_cell = {**variables, "LAYER_TO_TEST": str(cell.folder), "PYTHONDONTWRITEBYTECODE": "1"}
    _run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], log, of_cell)
    cell.tests = re.sub(r"^=+ | =+$", "", log.read_text().rstrip().splitlines()[-1])


def run(cell: Cell) -> bool:
    """Fill the cell; a cell that cannot be run says why. False if this machine lacks what the cell needs."""
    cell.date = time.strftime("%Y-%m-%d")
    try:
        python, variables = environment_of(cell)
        build(cell, python, variables)
        run_tests(cell, python, variables)
    except CellError as error:
        cell.problem = str(error)
        return not isinstance(error, MissingError)
    return True


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """The cells as Markdown."""
    yield "| torch | Python | machine | date | unzipped | build | tests |"
    yield "|---|---|---|---|---|---|---|"
    for cell in cells:
        size, seconds = f"{cell.unzipped_bytes / 1e6:.1f} MB", f"{cell.build_seconds:.0f} s"
        said = cell.tests if cell.problem is None else cell.problem.partition("\n")[0]
        yield f"| {cell.torch} | {cell.python} | {platform.machine()} | {cell.date} | {size} | {seconds} | {said} |"


def main(argv: list[str] | None = None) -> int:
    """Run the cells; 1 if one of them has a problem."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", help=f"a Python's version (default: {' '.join(PYTHONS)})")
    parser.add_argument("--torch", action="append", help=f"a version of torch (default: {' '.join(TORCHES)})")
    parser.add_argument("--skip-missing", action="store_true", help="what this machine lacks is no failure")
    arguments = parser.parse_args(argv)
    results = FOLDER / "matrix.json"
    known = {(value["torch"], value["python"]): Cell(**value) for value in _known(results)}
    problems = 0
    for torch in arguments.torch or TORCHES:
        for python in arguments.python or PYTHONS:
            cell = Cell(torch, python)
            sys.stdout.write(f"torch {torch} on CPython {python}: in {cell.folder}\n")
            sys.stdout.flush()
            could_be_run = run(cell)
            problems += cell.problem is not None and (could_be_run or not arguments.skip_missing)
            sys.stdout.write(f"  {'' if could_be_run else 'NOT RUN: '}{cell.problem or cell.tests}\n")
            known[torch, python] = cell
            results.write_text(json.dumps([asdict(each) for each in known.values()], indent=1) + "\n")
    sys.stdout.write("\n".join(table(list(known.values()))) + "\n")
    return 1 if problems else 0


def _known(results: Path) -> list[dict[str, Any]]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else []
    return found


if __name__ == "__main__":
    sys.exit(main())
