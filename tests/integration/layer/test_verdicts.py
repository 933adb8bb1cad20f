"""Tests in the manner of PyTorch's own, on the layer and on stock PyTorch. `make upstream` runs PyTorch's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from upstream.running import Selection, run_files

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAMS = Path(__file__).parent / "programs"


def test_verdicts_are_those_of_stock(layer: Layer, stock: Path, tmp_path: Path) -> None:
    """Every test of gradients, programs, serialization, distributions, optimizers and dispatch ends as on stock PyTorch."""

    def run(tree: Path) -> dict[str, str]:
        found = run_files(tree, PROGRAMS, ["ours.py"], Selection(None, 1), tmp_path / tree.parent.name)
        assert found.of, found.said
        return found.of

    with ThreadPoolExecutor(2) as pool:
        expected, actual = pool.map(run, (stock, layer.tree))
    assert actual == expected
    assert {name: verdict for name, verdict in actual.items() if verdict != "passed"} == {
        "ours.py::test_on_a_gpu": "skipped"
    }
    assert len(actual) > 25
