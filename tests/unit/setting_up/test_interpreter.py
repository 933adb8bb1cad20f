"""Which Python `make` takes for PYTHON=..., and what it says where there is none."""

import os
import subprocess
from pathlib import Path

import pytest

from lambda_torch.project import ROOT

SCRIPT = ROOT / "tools" / "lambda_torch" / "setting_up" / "interpreter.sh"
RUNS = "exit 0"
IS_OLD = 'case "$1" in --version) echo "Python 3.9.18";; *) exit 1;; esac'
IS_NOT_CHOSEN = "echo 'pyenv: python9.9: command not found' >&2; exit 127"


def program(path: Path, body: str) -> Path:
    """An executable script of sh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def asked(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """What the script says about a Python, with programs in `folder`/bin and a pyenv in `folder`/pyenv."""
    variables = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.defpath}", "PYENV_ROOT": str(folder / "pyenv")}
    command = ["bash", str(SCRIPT), name, "make serve"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_a_python_that_runs_is_taken_by_its_name(tmp_path: Path) -> None:
    """A name on PATH, or a path, stays as it was given."""
    here = program(tmp_path / "bin" / "python9.9", RUNS)
    for name in ("python9.9", str(here)):
        assert asked(tmp_path, name).stdout.strip() == name


def test_a_python_that_pyenv_has_not_chosen_is_found(tmp_path: Path) -> None:
    """Where pyenv's own command refuses to run, the Python below pyenv's versions is taken."""
    program(tmp_path / "bin" / "python9.9", IS_NOT_CHOSEN)
    found = program(tmp_path / "pyenv" / "versions" / "9.9.1" / "bin" / "python9.9", RUNS)
    assert asked(tmp_path, "python9.9").stdout.strip() == str(found)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (IS_OLD, "lambda-torch needs Python 3.11 or later, and python9.9 is Python 3.9.18. Next: make serve PYTHON="),
        (IS_NOT_CHOSEN, "There is no python9.9 that runs here. Next: install it"),
        (None, "There is no python9.9 that runs here. Next: install it"),
    ],
)
def test_a_python_that_cannot_be_used_is_refused(tmp_path: Path, body: str | None, message: str) -> None:
    """A Python that is too old is named with its version, and one that does not run as missing; both have a next step."""
    if body is not None:
        program(tmp_path / "bin" / "python9.9", body)
    done = asked(tmp_path, "python9.9")
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "command not found" not in done.stderr
