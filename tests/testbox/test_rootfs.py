import importlib.util
from pathlib import Path

import pytest

from lambda_torch import project, testbox
from lambda_torch.testbox.rootfs import ZIP_DATE

UNCHECKED_HASH = 0b01  # of a .pyc's flags, PEP 552


def flags(path: Path) -> int:
    """What a .pyc says of its validity."""
    return int.from_bytes(path.read_bytes()[4:8], "little")


def test_a_box_has_the_bytecode_that_function_and_layer_bring(tmp_path: Path) -> None:
    """What is in the package and in the layer is in the box, byte for byte, with the date of SAM's zips."""
    brought = ("task/__pycache__/app.pyc", "opt/python/__pycache__/thing.pyc", "opt/python/thing/__init__.pyc")
    for name in brought:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    with testbox.Rootfs(tmp_path / "task", tmp_path / "opt", tmp_path) as files:
        for name in brought:
            assert (files.folder / name).read_bytes() == name.encode()
            assert (files.folder / name).stat().st_mtime == ZIP_DATE


def test_the_runtimes_packages_have_bytecode_that_no_date_makes_stale(tmp_path: Path) -> None:
    """boto3 and the runtime client are not compiled again at each start of a box."""
    (tmp_path / "task").mkdir()
    with testbox.Rootfs(tmp_path / "task", None, tmp_path) as files:
        compiled = Path(importlib.util.cache_from_source(str(files.runtime / "boto3" / "session.py")))
        assert flags(compiled) == UNCHECKED_HASH


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A folder as `pip install --target` leaves it."""
    folder = tmp_path / "requirements"
    (folder / "thing" / "__pycache__").mkdir(parents=True)
    (folder / "thing" / "__init__.py").write_text("there = True\n")
    (folder / "thing" / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"by date")
    return folder


def test_the_package_is_what_sam_build_leaves(requirements: Path, tmp_path: Path) -> None:
    """src/ and its requirements, compiled for /var/task whatever their dates, without what only the build needs."""
    made = testbox.package(requirements, tmp_path / "task")
    for source in (made / "app.py", made / "serving" / "settings.py", made / "thing" / "__init__.py"):
        assert flags(Path(importlib.util.cache_from_source(str(source)))) == UNCHECKED_HASH
    assert str(made).encode() not in Path(importlib.util.cache_from_source(str(made / "app.py"))).read_bytes()
    makefile = (project.SRC / "Makefile").read_text()
    not_deployed = next(line for line in makefile.splitlines() if line.startswith("NOT_DEPLOYED")).split()[2:]
    assert not_deployed
    assert not [name for name in not_deployed if (made / name).exists()]
