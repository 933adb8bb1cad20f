"""Runs files of PyTorch's tests on a tree of packages, and reads the verdicts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from builder import clean
from upstream.areas import BESIDE

_MOST_CRASHES = 20  # of one run; what has not run then has no verdict
_SLOWEST_RUN = 6 * 3600  # seconds


class Selection(NamedTuple):
    """Which tests of the files are run.

    Attributes:
        sample: how many of each file; all if None.
        seed: which ones.
        names: these tests and no others, if it is not empty.
        seconds: how long a single test may take.
    """

    sample: int | None
    seed: int
    names: tuple[str, ...] = ()
    seconds: int = 300


class Verdicts(NamedTuple):
    """What a run gave.

    Attributes:
        of: by the name of the test: `passed`, `skipped`, `failed: ValueError`, `ended the process`, ...
        said: the last lines of what pytest said.
    """

    of: dict[str, str]
    said: str


def _beside() -> list[Path]:
    places = []
    for name in BESIDE:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        file = Path(spec.origin)
        places.append(file.parent if file.name == "__init__.py" else file)
    return [*places, Path(__file__).with_name("verdicts.py")]


def run_files(tree: Path, tests: Path, files: Sequence[str], selection: Selection, work: Path) -> Verdicts:
    """The verdicts of the selected tests of some files, in one process.

    Args:
        tree: a folder of packages, torch among them.
        tests: the folder of PyTorch's tests.
        files: some of them, relative to that folder.
        selection: which of its tests.
        work: an empty folder for what is on the way.
    """
    work.mkdir(parents=True)
    written, only = work / "verdicts", work / "only"
    variables = {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "TMPDIR": str(work),
        "UPSTREAM_VERDICTS": str(written),
        "UPSTREAM_SEED": str(selection.seed),
    }
    if selection.names:
        only.write_text("\n".join(selection.names), encoding="utf-8")
        variables["UPSTREAM_ONLY"] = str(only)
    elif selection.sample is not None:
        variables["UPSTREAM_SAMPLE"] = str(selection.sample)
    options = ["--noconftest", "-c", os.devnull, "--rootdir", str(tests), "--assert=plain", "--tb=no", "-q", "-q"]
    options += ["-p", "verdicts", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-p", "no:warnings"]
    options += [f"--timeout={selection.seconds}", "--continue-on-collection-errors"]
    said = ""
    with clean.environment(tree, variables, _beside()) as environment:
        # Test files import others of their folder, and start programs that do so.
        environment["PYTHONPATH"] += f"{os.pathsep}{tests}"
        command = [sys.executable, "-S", "-P", "-s", "-m", "pytest", *options, *(str(tests / file) for file in files)]
        for _ in range(_MOST_CRASHES):
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    cwd=work,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_SLOWEST_RUN,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                said = f"it did not end within {_SLOWEST_RUN} seconds"
                break
            said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
            if not written.exists() or "" in _read(written):
                break
            # A test has ended the process. The next one goes on behind it.
    found = _read(written) if written.exists() else {}
    found.pop("", None)
    results = {name: "ended the process" if verdict == "began" else verdict for name, verdict in found.items()}
    return Verdicts(results, said)


def _read(file: Path) -> dict[str, str]:
    return dict(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
