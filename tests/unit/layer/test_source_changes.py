"""Modules that open sources by path are compiled with another line in its place."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.python import source_changes

# Changes of extra packages fit or the package stays files (test_extras.py); the layer's own must fit.
OWN = [change for change in source_changes.CHANGES if change.path.startswith("torch/")]


@pytest.mark.parametrize("change", OWN, ids=lambda change: change.path)
def test_a_change_fits_the_torch_that_is_installed(change: source_changes.SourceChange) -> None:
    """The line stands in its source once, the result compiles, and every other line stays where it was."""
    spec = find_spec(change.path.split("/")[0])
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).parents[1].joinpath(change.path).read_bytes()
    other = source_changes.applied({change.path: text, "any.py": b"x = 1"})
    assert other["any.py"] == b"x = 1"
    compile(other[change.path], change.path, "exec", dont_inherit=True)
    lines = list(zip(text.splitlines(), other[change.path].splitlines(), strict=True))
    assert [b"get_data" in new for old, new in lines if old != new] == [True]


@pytest.mark.parametrize("text", [b"x = 1\n", b'with open(module, "rb") as f:\n' * 2])
def test_a_change_that_does_not_fit_is_an_error(text: bytes) -> None:
    """A line that is not there, or more than once, stops the build and is named."""
    with pytest.raises(BuildError, match=r"torch/_inductor/codecache\.py does not have the line"):
        source_changes.applied({"torch/_inductor/codecache.py": text})
