"""PyTorch's own operator database on the layer and on stock torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_kit.operators import DTYPES, SAMPLES, UNSTABLE, Digests, digests

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

STEP = 16  # `make operators` runs all of them


@pytest.fixture(scope="module")
def all_of_float32(layer: Layer, stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """Digests of every sample of every operator."""
    return digests(stock, layer.tree, tmp_path_factory.mktemp("operators"))


def test_every_operator_gives_the_stock_bytes(all_of_float32: Digests) -> None:
    """Outputs and gradients of 18,000 and more samples of PyTorch's operator database are equal bit for bit."""
    compared = all_of_float32.compared()
    assert len(compared) > 18_000
    assert len({name.split("/")[0] for name in compared}) > 650
    assert all_of_float32.different() == {}


def test_unstable_operators_run(all_of_float32: Digests) -> None:
    """Each row of operators that are unstable in stock torch too stands for some; they are compared by the shapes they give."""
    compared = set(all_of_float32.compared())
    for unstable in UNSTABLE:
        names = [name for name in all_of_float32.expected if name.startswith(unstable.prefix)]
        assert names, f"{unstable.prefix} has no samples any more"
        assert compared.isdisjoint(names)


def test_operators_of_other_types_give_the_stock_bytes(layer: Layer, stock: Path, tmp_path: Path) -> None:
    """Every sixteenth operator in five more types, with gradients where the type has some, gives the stock bytes."""
    found = digests(stock, layer.tree, tmp_path, "--dtypes", *DTYPES, "--samples", str(SAMPLES), "--share", f"5/{STEP}")
    assert {name.split("/")[1] for name in found.compared()} == set(DTYPES)
    assert len(found.compared()) > 500
    assert found.different() == {}
