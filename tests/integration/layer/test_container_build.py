from __future__ import annotations

from pathlib import Path

import pytest

from integration.layer.conftest import Layer
from lambda_torch.project import ROOT

BUILT = ROOT / "build" / "tests" / "container" / "project"


def sizes(folder: Path) -> dict[str, int]:
    """The layer's own ledger: every file and its bytes."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_the_layer_that_sam_builds_in_a_container_is_that_of_make_layer(layer: Layer) -> None:
    """`sam build --use-container` (run by tests/container) and `make layer` leave the same files, of the same sizes."""
    from builder import inputs

    container = BUILT / ".aws-sam" / "build" / "TorchLayer"
    if not container.is_dir():
        pytest.skip("tests/container has not built a layer here (it needs Docker)")
    if inputs.digest(BUILT / "layers" / "torch") != inputs.digest():
        pytest.skip("the layer that tests/container built is of other sources")
    assert sizes(container / "python") == sizes(layer.tree)
