"""Builds, verifies and tries the layer on other Pythons and other versions of torch, and prints a table of what was run.

    python -m runtimes.matrix                                  # CPython 3.12 to 3.14, torch 2.13.0
    python -m runtimes.matrix --python 3.13 --torch 2.13.0     # one cell
    python -m runtimes.matrix --machine aarch64 --python 3.13  # for other processors than this machine's, in an emulator
    python -m runtimes.matrix --document                       # run nothing, write the table into docs/testing.md

Each cell has a folder of its own in build/runtimes: an environment, the layer, the logs. What is there already is used again.
So it may run beside `make test` in the same checkout, and beside itself with other cells. Of other builds' work folders it only
reads what they keep.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from builder import paths
from builder.stage import policy
from lambda_torch.project import BUILD, ROOT
from layer_kit.page_tables import PageError, put_rows, rule_of
from runtimes import cpu_wheel, foreign_python
from runtimes.emulated import PLATFORMS, EmulationError

PYTHONS = ("3.12", "3.13", "3.14")
TORCHES = ("2.13.0",)
# Beside the layer's own tests, what the function does in Lambda's emulator, on this Python. The pager is C, so one Python is
# enough for its tests, and so it is for the tests of the builder's verification. What SAM has built in a container is of
# another Python, and `make test` may just be building it.
TESTS = (
    "tests/integration/layer",
    "--ignore=tests/integration/layer/pager",
    "--ignore=tests/integration/layer/test_verify.py",
    "--ignore=tests/integration/layer/test_container_build.py",
    "tests/integration/start",
)
# Of the processes in which threads touch the same cold code; `make test` has 100 of each kind.
HAMMER_RUNS = "20"
FOLDER = BUILD / "runtimes"
PAGE = ROOT / "docs" / "testing.md"
HEAD = "| torch | Python | machine | date | unzipped | build | verified | tests |"
REQUIREMENTS = ROOT / "layers" / "torch" / "requirements.txt"
BUILDER_REQUIREMENTS = ROOT / "layers" / "torch" / "builder" / "requirements.txt"


class CellError(Exception):
    """A cell cannot be run; the message says why and what to do."""


class MissingError(CellError):
    """This machine lacks the Python, or a wheel of torch for it."""


@dataclass
class Cell:
    """One pair of versions on one kind of processors, and what was seen.

    Attributes:
        torch: torch's version, without a local part.
        python: The Python's, `3.13`.
        date: When it was run, `2026-11-29`.
        unzipped_bytes: The layer's size.
        build_seconds: How long the build with its verification took.
        verified: What the build compared with stock PyTorch.
        tests: pytest's last line; empty where the tests were not run.
        problem: Why there is no result; None where there is one.
        machine: The processors, as `uname -m` says. The tests do not run on others than this machine's.
    """

    torch: str
    python: str
    date: str = ""
    unzipped_bytes: int = 0
    build_seconds: float = 0.0
    verified: str = ""
    tests: str = ""
    problem: str | None = None
    machine: str = platform.machine()

    @property
    def is_emulated(self) -> bool:
        """Whether the cell is for other processors than this machine's."""
        return self.machine != platform.machine()

    @property
    def folder(self) -> Path:
        """Where everything of this cell is."""
        name = f"torch-{self.torch}-python{self.python}"
        return FOLDER / (f"{name}-{self.machine}" if self.is_emulated else name)


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
        done = subprocess.run([candidate, "-c", "import ensurepip, ssl, venv"], capture_output=True, check=False)
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


def environment_of(cell: Cell, *, with_tests: bool) -> tuple[Path, dict[str, str]]:
    """The cell's interpreter with its packages, and the environment variables by which pip finds torch.

    Args:
        cell: Which versions.
        with_tests: Install what the tests need, and not only what the builder needs.

    Raises:
        MissingError: there is no wheel of torch for this Python.
        CellError: pip fails; the message is its own.
    """
    requirements = requirements_of(cell)
    variables = pip_variables(cell, requirements)
    files = [ROOT / "requirements" / "dev.txt", requirements] if with_tests else [BUILDER_REQUIREMENTS]
    folder = cell.folder / ("venv" if with_tests else "venv-builder")
    ready, python = folder / ".ready", folder / "bin" / "python"
    stamp = "".join(file.read_text() for file in files)
    if not (ready.is_file() and ready.read_text() == stamp):
        shutil.rmtree(folder, ignore_errors=True)
        log = cell.folder / "venv.log"
        _run([interpreter(cell.python), "-m", "venv", folder], log, variables)
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        for file in files:
            _run([*install, "--requirement", file], log, variables)
        if with_tests:
            # An editable installation would write into the checkout, where other tests may be building the package.
            (site,) = folder.glob("lib/python*/site-packages")
            (site / "checkout.pth").write_text(f"{ROOT / 'tools'}\n")
        ready.write_text(stamp)
    return python, variables


def pip_variables(cell: Cell, requirements: Path) -> dict[str, str]:
    """The environment variables by which pip finds a CPU wheel of torch for the cell's Python. It is made if there is none.

    Raises:
        MissingError: it can neither be found nor made.
    """
    # A machine's own constraints on torch are meant for its own Python.
    variables = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    if not _torch_can_be_had(cell, requirements, variables):
        wheels = FOLDER / "wheels"
        try:
            base = None if cell.is_emulated else _base_wheel(cell.torch)
            cpu_wheel.make(cell.torch, cell.python, wheels, base, wheels / "downloads", cell.machine)
        except cpu_wheel.WheelError as error:
            raise MissingError(str(error)) from error
        variables["PIP_FIND_LINKS"] = f"{wheels} {variables.get('PIP_FIND_LINKS', '')}".strip()
    return variables


def _torch_can_be_had(cell: Cell, requirements: Path, variables: Mapping[str, str]) -> bool:
    """Whether pip finds a real CPU wheel for the cell's Python, by its own configuration."""
    line = next(line for line in requirements.read_text().splitlines() if line.startswith("torch=="))
    with_options = ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--quiet"]
    target = ["--python-version", cell.python, "--target", str(cell.folder / "nowhere"), line]
    if cell.is_emulated:
        target += ["--platform", f"{PLATFORMS[0]}_{cell.machine}"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *with_options, *target]
    return subprocess.run(command, env=variables, capture_output=True, check=False).returncode == 0


def _base_wheel(version: str) -> Path | None:
    """A CPU wheel of that torch for the Python that runs this, if pip has one."""
    folder = FOLDER / "wheels" / "base"
    name = f"torch-{version}+cpu-*_{platform.machine()}.whl"
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


def build(cell: Cell, python: Path, variables: Mapping[str, str], budget: int, emulator: Sequence[object] = ()) -> None:
    """Build and verify the layer, with the committed profiles, or with those that this records.

    Args:
        cell: Which versions.
        python: This machine's interpreter, with what the builder needs.
        variables: The environment.
        budget: How many bytes the layer may have.
        emulator: What `emulator_of` gives.

    Raises:
        CellError: the builder refuses; the message is its own.
    """
    log = cell.folder / "build.log"
    log.unlink(missing_ok=True)
    options: list[object] = ["--output", cell.folder / "layer", "--zip", cell.folder / "layer.zip"]
    options += ["--work", cell.folder / "cache", "--report", cell.folder / "report.json"]
    options += ["--requirements", requirements_of(cell), "--budget", budget]
    # Much of a layer is the same for every Python: compressed sources, and libtorch_cpu.so's kernels.
    caches = [
        BUILD / "cache" / "layer",
        *(each / "cache" for each in sorted(FOLDER.glob("torch-*")) if each != cell.folder),
    ]
    options += [part for cache in caches if cache.is_dir() for part in ("--results-of", cache)]
    started = time.monotonic()
    if emulator:
        options = [*emulator, "--", *options]
        variables = {**variables, "PYTHONPATH": str(ROOT / "tests")}
    program = "runtimes.emulated" if emulator else "builder"
    _run([python, "-m", program, *options], log, variables, ROOT / "layers" / "torch")
    read_build(cell)
    cell.build_seconds = round(time.monotonic() - started, 1)


def emulator_of(cell: Cell) -> list[object]:
    """The options of `runtimes.emulated` for the cell's processors; none if they are this machine's.

    Raises:
        MissingError: this machine has no emulator, or no such interpreter.
    """
    if not cell.is_emulated:
        return []
    try:
        folder = FOLDER / f"cpython-{cell.python}-{cell.machine}"
        path = foreign_python.have(cell.python, cell.machine, folder)
    except EmulationError as error:
        raise MissingError(str(error)) from error
    tag = f"cpython-{cell.python.replace('.', '')}-{platform.machine()}"
    # The one without a maker comes first: it has the modules that wait.
    known = next(iter(sorted(paths.PROFILES.glob(f"torch-{cell.torch}+cpu-{tag}-workload*.json"), reverse=True)), None)
    options = ["--interpreter", path, "--wheels", FOLDER / "wheels"]
    return options if known is None else [*options, "--known", known]


def read_build(cell: Cell) -> None:
    """Fill in what the last build in the cell's folder has left.

    Raises:
        CellError: there is none.
    """
    log, report = cell.folder / "build.log", cell.folder / "report.json"
    if not (log.is_file() and report.is_file()):
        raise CellError(f"there is no finished build in {cell.folder}. Next: make test-matrix")
    value = json.loads(report.read_text())
    cell.date = time.strftime("%Y-%m-%d", time.localtime(report.stat().st_mtime))
    cell.unzipped_bytes = value["unzipped_bytes"]
    cell.build_seconds = round(sum(step["seconds"] for step in value["steps"]), 1)
    found = re.search(r"(\d+) outputs of the workload and (\d+) outputs of (\d+) checks are equal", log.read_text())
    cell.verified = f"{found[1]} + {found[2]} outputs bit for bit" if found else ""


def run_tests(cell: Cell, python: Path, variables: Mapping[str, str]) -> None:
    """Run the tests of the layer and of the function on the cell's Python.

    Raises:
        CellError: a test fails.
    """
    log = cell.folder / "tests.log"
    log.unlink(missing_ok=True)
    of_cell = {
        **variables,
        "LAYER_TO_TEST": str(cell.folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HAMMER_RUNS": HAMMER_RUNS,
    }
    # The slowest tests stand in the log: they decide what a row costs.
    _run([python, "-m", "pytest", "-q", "--durations=15", "-p", "no:cacheprovider", *TESTS], log, of_cell)
    cell.tests = re.sub(r"^=+ | =+$", "", log.read_text().rstrip().splitlines()[-1])


def run(cell: Cell, *, with_tests: bool, budget: int, last_build: bool = False) -> bool:
    """Fill the cell; a cell that cannot be run says why. False if this machine lacks what the cell needs."""
    cell.date = time.strftime("%Y-%m-%d")
    try:
        if last_build:
            read_build(cell)
            return True
        cell.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cell.folder / "lock"):
            with_tests = with_tests and not cell.is_emulated
            emulator = emulator_of(cell)  # before gigabytes are fetched
            python, variables = environment_of(cell, with_tests=with_tests)
            build(cell, python, variables, budget, emulator)
            if with_tests:
                run_tests(cell, python, variables)
    except CellError as error:
        cell.problem = str(error)
        return not isinstance(error, MissingError)
    return True


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """The cells as Markdown, in order of their versions."""
    yield HEAD
    yield rule_of(HEAD)
    yield from _in_order(map(_row, cells))


def _row(cell: Cell) -> str:
    size, seconds = f"{cell.unzipped_bytes / 1e6:.1f} MB", f"{cell.build_seconds:.0f} s"
    said = (cell.tests or "not run") if cell.problem is None else cell.problem.partition("\n")[0]
    versions = f"{cell.torch} | {cell.python} | {cell.machine} | {cell.date}"
    return f"| {versions} | {size} | {seconds} | {cell.verified or 'no'} | {said} |"


def _versions(row: str) -> tuple[str, str, str]:
    """torch, Python and machine of a row."""
    torch, python, machine = row.strip("| ").split(" | ")[:3]
    return torch, python, machine


def _in_order(rows: Iterable[str]) -> list[str]:
    return sorted(rows, key=lambda row: tuple(map(_numbers, _versions(row)[:2])))


def document(cells: Sequence[Cell], page: Path = PAGE) -> None:
    """Put the cells into the table of the page. Rows for other versions and machines stay.

    Raises:
        CellError: nothing was run here, or the page has no such table.
    """
    if not cells:
        raise CellError("no cell was run on this machine. Next: make test-matrix")

    def with_ours(old: list[str]) -> list[str]:
        return _in_order({_versions(row): row for row in [*old, *map(_row, cells)]}.values())

    try:
        put_rows(page, HEAD, with_ours)
    except PageError as error:
        raise CellError(str(error)) from error


def main(argv: list[str] | None = None) -> int:
    """Run the cells; 1 if one of them has a problem."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", help=f"a Python's version (default: {' '.join(PYTHONS)})")
    parser.add_argument("--torch", action="append", help=f"a version of torch (default: {' '.join(TORCHES)})")
    parser.add_argument(
        "--machine",
        action="append",
        choices=sorted(policy.MACHINES),
        help="the processors (default: this machine's). For others it builds and verifies in an emulator, without the tests",
    )
    parser.add_argument("--skip-missing", action="store_true", help="what this machine lacks is no failure")
    parser.add_argument("--build-only", action="store_true", help="build and verify the layer, without the tests")
    parser.add_argument(
        "--last-build",
        action="store_true",
        help="run nothing, and read what the last build in the cell's folder has left",
    )
    parser.add_argument(
        "--budget", type=int, default=policy.BUDGET_BYTES, help="bytes that a layer may have (default: %(default)s)"
    )
    parser.add_argument(
        "--document", action="store_true", help="write the last results into docs/testing.md, and run nothing"
    )
    parser.add_argument(
        "--find-links",
        action="store_true",
        help="only have the wheels of torch, and print the folders in which pip finds them: a value for PIP_FIND_LINKS",
    )
    arguments = parser.parse_args(argv)
    cells = [
        Cell(torch, python, machine=machine)
        for torch in arguments.torch or TORCHES
        for python in arguments.python or PYTHONS
        for machine in arguments.machine or [platform.machine()]
    ]
    if arguments.find_links:
        return print_find_links(cells)
    results = FOLDER / "matrix.json"
    known = _known(results)
    if arguments.document:
        try:
            document(list(known.values()))
        except CellError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    problems = 0
    for cell in cells:
        sys.stdout.write(f"torch {cell.torch} on CPython {cell.python}, {cell.machine}: in {cell.folder}\n")
        sys.stdout.flush()
        options = {"with_tests": not arguments.build_only, "last_build": arguments.last_build}
        could_be_run = run(cell, budget=arguments.budget, **options)
        problems += cell.problem is not None and (could_be_run or not arguments.skip_missing)
        sys.stdout.write(f"  {'' if could_be_run else 'NOT RUN: '}{cell.problem or cell.tests or cell.verified}\n")
        # What this machine lacks says nothing about the layer, so the last result of the cell stays.
        known = _keep(results, cell) if could_be_run else _known(results)
    sys.stdout.write("\n".join(table(list(known.values()))) + "\n")
    return 1 if problems else 0


def print_find_links(cells: Iterable[Cell]) -> int:
    """Print one line for PIP_FIND_LINKS; 1 if a wheel cannot be had, or its Python is not here."""
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    for cell in cells:
        try:
            interpreter(cell.python)
            links += pip_variables(cell, requirements_of(cell)).get("PIP_FIND_LINKS", "").split()
        except MissingError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write(f"{' '.join(dict.fromkeys(links))}\n")
    return 0


def _known(results: Path) -> dict[tuple[str, str, str], Cell]:
    """The last result of each cell."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = [Cell(**value) for value in json.loads(results.read_text())] if results.is_file() else []
    return {(cell.torch, cell.python, cell.machine): cell for cell in found}


def _keep(results: Path, cell: Cell) -> dict[tuple[str, str, str], Cell]:
    """Put a result beside the others, of which another run may have written some in the meantime."""
    with FileLock(f"{results}.lock"):
        known = _known(results)
        known[cell.torch, cell.python, cell.machine] = cell
        partial = results.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(each) for each in known.values()], indent=1) + "\n")
        partial.replace(results)
    return known


if __name__ == "__main__":
    sys.exit(main())
