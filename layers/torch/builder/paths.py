"""Where the folders of `layers/torch` are: the one place that knows how deep a module lies."""

from pathlib import Path

BUILDER = Path(__file__).resolve().parent
"""This package."""
LAYER = BUILDER.parent
"""`layers/torch`, or the copy of it that SAM makes before it builds."""
RUN_TIME = LAYER / "torch_layer"
"""The run-time half, which goes into the layer as it is."""
PAGER = LAYER / "pager"
"""The pager's C sources."""
PROFILES = LAYER / "profiles"
"""Recorded profiles, one for each set of wheels, Python and architecture."""
