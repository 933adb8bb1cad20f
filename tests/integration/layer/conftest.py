"""The layer that these tests try, built once, and the stock tree that it is compared with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from builder import inputs
from layer_kit.stock import installed_files, link_stock

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"


class Layer(NamedTuple):
    """A finished layer: `tree` becomes /opt/python."""

    root: Path
    tree: Path
    zip: Path
    report: Path


def _is_current(layer: Layer, digest: str) -> bool:
    if not (layer.tree.is_dir() and layer.zip.is_file() and layer.report.is_file()):
        return False
    return bool(json.loads(layer.report.read_text()).get("inputs") == digest)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for the build, which takes minutes, and longer on a busy machine."""
    for item in items:
        if "layer" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def layer() -> Layer:
    """The layer in build/layer, made by `python -m builder` unless the one there is of these very inputs.

    `LAYER_TO_TEST=FOLDER` names another one (FOLDER/layer, FOLDER/layer.zip, FOLDER/report.json), which is tried as it is.
    """
    folder = Path(os.environ.get("LAYER_TO_TEST", BUILD))
    found = Layer(folder / "layer", folder / "layer" / "python", folder / "layer.zip", folder / "report.json")
    if "LAYER_TO_TEST" in os.environ:
        return found
    if not _is_current(found, inputs.digest()):
        if shutil.which("cc") is None and shutil.which("gcc") is None:
            pytest.skip("building the layer needs a C compiler (Debian: apt-get install gcc)")
        arguments = ["--output", str(found.root), "--report", str(found.report), "--zip", str(found.zip)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "layers" / "torch")}
        subprocess.run([sys.executable, "-m", "builder", *arguments], env=environment, check=True)
        assert _is_current(found, inputs.digest()), (
            "the report does not carry the digest of what the layer was built from"
        )
    return found


@pytest.fixture(scope="session")
def installed() -> tuple[str, ...]:
    """Paths of every file of the layer's packages as pip installed them here, relative to site-packages."""
    return installed_files()


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layer's packages as pip installed them here, and no other package of this environment."""
    return link_stock(tmp_path_factory.mktemp("stock"))
