"""PyTorch's own operator database on the layer and on stock torch."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from builder import clean

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAM = Path(__file__).parent / "programs" / "operators.py"


class UnstableOperators(NamedTuple):
    """Operators whose bytes differ from run to run of stock torch as well."""

    prefix: str
    reason: str


UNSTABLE = (
    UnstableOperators("empty", "memory that nothing was written to"),
    UnstableOperators("new_empty", "memory that nothing was written to"),
    UnstableOperators("linalg.lstsq", "MKL's gelsy rounds by where its work memory lies"),
)


@pytest.fixture(scope="module")
def digests(
    layer: Layer, stock: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of every sample of every operator: stock torch's and the layer's."""
    folder, spec = tmp_path_factory.mktemp("operators"), importlib.util.find_spec("expecttest")
    assert spec is not None
    assert spec.origin is not None
    needed = Path(spec.origin).parent  # imported by the operator database, and not a part of torch

    def run(tree: Path, file: Path) -> dict[str, str]:
        order = {"PYTHONHASHSEED": "0"}  # some samples come out of sets of strings
        process = clean.run(tree, str(PROGRAM), str(file), extra=order, beside=[needed], timeout=1200)
        assert process.returncode == 0, process.stderr
        found: dict[str, str] = json.loads(file.read_text())
        return found

    with ThreadPoolExecutor(2) as pool:
        expected, actual = pool.map(run, (stock, layer.tree), (folder / "stock.json", folder / "layer.json"))
    return expected, actual


def test_every_operator_gives_the_stock_bytes(digests: tuple[dict[str, str], dict[str, str]]) -> None:
    """Outputs and gradients of 18,000 and more samples of PyTorch's operator database are equal bit for bit."""
    expected, actual = digests
    assert actual.keys() == expected.keys()
    prefixes = tuple(unstable.prefix for unstable in UNSTABLE)
    compared = [name for name in expected if not name.startswith(prefixes)]
    assert len(compared) > 18_000
    assert len({name.split("/")[0] for name in compared}) > 650
    different = {name: (expected[name], actual[name]) for name in compared if expected[name] != actual[name]}
    assert different == {}


def test_unstable_operators_run(digests: tuple[dict[str, str], dict[str, str]]) -> None:
    """Operators that are unstable in stock torch too run on the layer, and give outputs of the stock shapes."""
    expected, actual = digests
    for unstable in UNSTABLE:
        names = [name for name in expected if name.startswith(unstable.prefix)]
        assert names, f"{unstable.prefix} has no samples any more"
        for name in names:
            assert _shapes(actual[name]) == _shapes(expected[name])


def _shapes(digest: str) -> list[str]:
    return [word for word in digest.replace(", ", ",").split() if word.startswith("torch.")]
