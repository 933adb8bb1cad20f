"""The function's package, as `sam build` makes it by src/Makefile: everything has bytecode that is valid on a read-only disk."""

import compileall
import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from lambda_torch.project import ROOT, SRC


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


@pytest.fixture(scope="module")
def whole_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with its requirements, whose files come from the tests' own environment instead of the network."""
    folder = shutil.copytree(package, tmp_path_factory.mktemp("whole") / "package")
    pins = re.findall(r"^([\w-]+)==(\S+)", (SRC / "requirements.txt").read_text(), re.MULTILINE)
    assert pins
    for name, version in pins:
        installed = distribution(name)
        assert installed.version == version, f"{name} is not the version that src/requirements.txt pins"
        for file in installed.files or []:
            # Not its commands, which lie outside of the folder, and not the bytecode: that is made below.
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    assert compileall.compile_dir(folder, quiet=1, invalidation_mode=unchecked)
    return folder


def test_the_readme_names_the_size_of_the_package(whole_package: Path, tmp_path: Path) -> None:
    """README's figure for the zipped function is within a tenth of what `sam deploy` would upload."""
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(whole_package.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(whole_package))
    megabytes = archive.stat().st_size / 1e6
    print(f"the function's package: {megabytes:.1f} MB zipped")
    (named,) = re.findall(r"([\d.]+) MB of function", (ROOT / "README.md").read_text())
    assert abs(float(named) - megabytes) <= megabytes / 10, f"README says {named} MB; it is {megabytes:.1f} MB"
