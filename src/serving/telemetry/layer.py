"""What the PyTorch layer reports about itself.

This is the one file of the function that knows the layer's package, `torch_layer`.

On a torch that did not come from the layer, each function returns None and imports nothing.
"""

import sys
from typing import NamedTuple


class PagerCounts(NamedTuple):
    """What the layer's pager has done so far in this process: it loads cold code when something touches it."""

    faults: int
    bytes: int
    microseconds: int


def pager_counts() -> PagerCounts | None:
    """The pager's counters; None without the layer."""
    if "torch_layer" not in sys.modules:
        return None
    from torch_layer.pager import stats

    found = stats()
    return PagerCounts(found.faults, found.bytes, found.microseconds)


class CompletedImport(NamedTuple):
    """What made the layer run the modules of torch that it defers until something touches one of them."""

    by: str
    milliseconds: float


def completed_import() -> CompletedImport | None:
    """What completed the layer's import of torch; None as long as nothing has, and without the layer."""
    finder = sys.modules.get("torch_layer.finder")
    if finder is None:
        return None
    found = finder.imports()
    if not found.complete or not found.reason:
        return None
    return CompletedImport(found.reason, round(found.microseconds / 1e3, 1))
