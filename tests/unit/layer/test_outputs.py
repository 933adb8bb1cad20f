"""Workload outputs on disk, and how two runs are compared."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import OutputsFileError
from builder.outputs import FrozenOutput, differences, read_outputs, write_outputs
from builder.workload import freeze

RESULTS = {"a/b": FrozenOutput("F32", (1,), b"\0\0\x80\x3f"), "a/text": FrozenOutput("U8", (5,), b"hello")}


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        st.builds(lambda data: FrozenOutput("U8", (len(data),), data), st.binary(max_size=40)),
        max_size=6,
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, results: dict[str, FrozenOutput]) -> None:
    """Any outputs, under any names, come back as they were, with their metadata."""
    path = tmp_path_factory.mktemp("results") / "file"
    write_outputs(path, results, {"torch": "2"})
    assert read_outputs(path) == (results, {"torch": "2"})


def test_safetensors_reads_the_file(tmp_path: Path) -> None:
    """The file is a safetensors file to others as well."""
    from safetensors.torch import load_file

    weight = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    write_outputs(tmp_path / "file", {"w": freeze(weight)}, {})
    assert torch.equal(load_file(tmp_path / "file")["w"], weight)


@given(st.integers(0, 200), st.randoms())
def test_a_damaged_file_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int, chance: random.Random) -> None:
    """A file that was cut short anywhere, or is something else, gives an OutputsFileError that names it."""
    path = tmp_path_factory.mktemp("results") / "file"
    write_outputs(path, RESULTS, {})
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)] if chance.random() < 0.8 else chance.randbytes(cut))
    with pytest.raises(OutputsFileError, match="file"):
        read_outputs(path)


def test_equal_outputs_have_no_differences() -> None:
    """Two runs with the same bytes differ in nothing."""
    assert differences(RESULTS, dict(RESULTS)) == []


def test_every_difference_is_named() -> None:
    """Missing, new, reshaped and changed outputs each have a line with the output's name and what is wrong."""
    expected = {
        "gone": FrozenOutput("U8", (1,), b"x"), "number": FrozenOutput("F32", (2,), bytes(8)),
        "shape": FrozenOutput("F32", (1,), bytes(4)), "text": FrozenOutput("U8", (2,), b"ab"),
    }  # fmt: skip
    actual = {
        "new": FrozenOutput("U8", (1,), b"x"), "number": FrozenOutput("F32", (2,), bytes(7) + b"\1"),
        "shape": FrozenOutput("F32", (1, 1), bytes(4)), "text": FrozenOutput("U8", (2,), b"ac"),
    }  # fmt: skip
    assert differences(expected, actual) == [
        "gone: missing",
        "new: not in the reference",
        "number: 1 of 8 bytes differ, the first at byte 7 (F32[2])",
        "shape: F32[1, 1] where F32[1] was expected",
        "text: 'ac' where 'ab' was expected",
    ]


@pytest.mark.parametrize(
    "value", [torch.ones(3, 1).t()[0], torch.arange(6).reshape(2, 3).t(), torch.tensor(2.5), torch.empty(0, 2)]
)
def test_freezing_keeps_the_values_in_row_major_order(value: torch.Tensor) -> None:
    """Strided, scalar and empty tensors are frozen as their contiguous copies."""
    frozen = freeze(value)
    assert (frozen.shape, frozen.data) == (tuple(value.shape), value.contiguous().numpy().tobytes())
