from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lambda_torch.project import BUILD, ROOT
from lambda_torch.sam import runtime
from runtimes.matrix import FOLDER

BUILT = ROOT / "build" / "tests" / "container" / "project"


def sizes(folder: Path) -> dict[str, int]:
    """The layer's own ledger: every file and its bytes."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_the_layer_that_sam_builds_in_a_container_is_that_of_make_layer() -> None:
    """`sam build --use-container` (run by tests/container) leaves the same files, of the same sizes, as a build without it."""
    from builder import inputs

    container = BUILT / ".aws-sam" / "build" / "TorchLayer" / "python"
    if not container.is_dir():
        pytest.skip("tests/container has not built a layer here (it needs Docker)")
    digest = inputs.digest(BUILT / "layers" / "torch")
    if digest != inputs.digest():
        pytest.skip("the layer that tests/container built is of other sources")
    version = runtime.of_template(BUILT / "template.yaml").version
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in [BUILD] if version == own else FOLDER.glob(f"torch-*-python{version}"):
        report = folder / "report.json"
        if report.is_file() and json.loads(report.read_text()).get("inputs") == digest:
            assert sizes(container) == sizes(folder / "layer" / "python")
            return
    pytest.skip(f"there is no other layer of these sources for CPython {version} (make layer; make test-matrix)")
