"""Where the folders of `layers/torch` are. No other module of the builder computes such a path."""

from pathlib import Path

BUILDER = Path(__file__).resolve().parent
"""This package."""
LAYER = BUILDER.parent
"""`layers/torch`, or the copy of it that SAM makes before it builds."""
RUN_TIME = LAYER / "torch_layer"
"""The run-time package, which goes into the layer unchanged."""
PAGER = LAYER / "pager"
"""The pager's C sources."""
PROFILES = LAYER / "profiles"
"""Recorded profiles, one for each set of wheels, Python and architecture."""


def tree_of(package_init: str) -> Path:
    """The folder of packages that a package was imported from, by its `__file__`."""
    return Path(package_init).parent.parent
