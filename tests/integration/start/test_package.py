"""The function's package, as `sam build` makes it by src/Makefile: everything has bytecode that is valid on a read-only disk."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_torch.project import SRC


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of src/, without its requirements, which would need the network."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    source = tmp_path_factory.mktemp("source") / "src"
    shutil.copytree(SRC, source)
    (source / "requirements.txt").write_text("")
    stale = source / "serving" / "__pycache__" / "gone.cpython-311.pyc"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"a developer's own")
    folder = tmp_path_factory.mktemp("package")
    command = ["make", "build-PredictFunction", f"PYTHON={sys.executable}", f"ARTIFACTS_DIR={folder}"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_module_has_bytecode_that_no_date_can_spoil(package: Path) -> None:
    """Bytecode is there for each source, and is valid whatever date the source has (PEP 552, unchecked hash)."""
    sources = sorted(package.rglob("*.py"))
    assert package / "app.py" in sources
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source)))
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 0b01, source


def test_only_what_runs_is_deployed(package: Path) -> None:
    """What builds the package, and what a developer's Python left, stay behind."""
    names = {path.name for path in package.rglob("*")}
    assert names & {"Makefile", "requirements.in", "requirements.txt"} == set()
    assert "gone.cpython-311.pyc" not in names


def test_traces_name_files_as_they_are_on_lambda(package: Path) -> None:
    """A stack trace in the log says /var/task, not where the package was built."""
    compiled = Path(importlib.util.cache_from_source(str(package / "app.py"))).read_bytes()
    assert b"/var/task/app.py" in compiled
    assert str(package).encode() not in compiled
