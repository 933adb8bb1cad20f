"""What the files of a release may be: safetensors are judged by their structure, whatever their first bytes look like."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lambda_torch.checkpoints import write_weights
from serving.releases import format, screening

# Lengths of headers that begin as a pickle of protocol 2 to 5 does.
LIKE_A_PICKLE = [protocol << 8 | 0x80 for protocol in range(2, 6)]
KEPT = [HealthCheck.function_scoped_fixture]


def file_of(length: int, *, header: Any = None, data: bytes = bytes(4)) -> bytes:
    """A safetensors file with a header of this length, filled up with spaces as the format allows."""
    tensors = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} if header is None else header
    text = json.dumps(tensors).encode().ljust(length)
    return struct.pack("<Q", len(text)) + text + data


def screen(folder: Path, name: str, content: bytes) -> None:
    """Look at one file as a release."""
    (folder / name).write_bytes(content)
    screening.check(folder, format.describe(folder))
    (folder / name).unlink()


@settings(max_examples=60, suppress_health_check=KEPT)
@given(length=st.sampled_from([*LIKE_A_PICKLE, *(each + 65536 for each in LIKE_A_PICKLE)]) | st.integers(64, 70_000))
def test_a_safetensors_file_passes_whatever_its_length(tmp_path: Path, length: int) -> None:
    """A whole safetensors file passes by any name, also where its length begins as a pickle does."""
    for name in ("weights.safetensors", "weights.bin"):
        screen(tmp_path, name, file_of(length))


@settings(max_examples=150, suppress_health_check=KEPT)
@given(length=st.integers(1, 1400))
def test_convert_writes_no_file_that_begins_as_a_pickle(tmp_path: Path, length: int) -> None:
    """Whatever the size of the header, what `convert` writes passes in functions that judge by the first two bytes."""
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"n" * length: torch.ones(1)})
    start = path.read_bytes()[:2]
    assert not (start[0] == 0x80 and 2 <= start[1] <= 5)
    assert load_file(path)["n" * length].tolist() == [1]


def test_headers_of_these_lengths_do_come_up(tmp_path: Path) -> None:
    """safetensors itself writes headers that begin as a pickle does: without padding the property above would fail."""
    lengths = set()
    for length in range(540, 600):
        save_file({"n" * length: torch.ones(1)}, tmp_path / "a", metadata={"format": "pt"})
        lengths.add(struct.unpack("<Q", (tmp_path / "a").read_bytes()[:8])[0])
    assert LIKE_A_PICKLE[0] in lengths


ENTRY = {"dtype": "F32", "shape": [1]}
BROKEN: dict[str, bytes] = {
    "a gap": file_of(0, header={"a": {**ENTRY, "data_offsets": [4, 8]}}, data=bytes(8)),
    "an overlap": file_of(0, header={"a": {**ENTRY, "data_offsets": [0, 4]}, "b": {**ENTRY, "data_offsets": [0, 4]}}),
    "bytes behind": file_of(0, data=bytes(8)),
    "bytes missing": file_of(0, data=bytes(2)),
    "backwards": file_of(0, header={"a": {**ENTRY, "data_offsets": [4, 0]}}),
    "no numbers": file_of(0, header={"a": {**ENTRY, "data_offsets": ["0", "4"]}}),
    "no offsets": file_of(0, header={"a": ENTRY}),
    "no objects": struct.pack("<Q", 10) + b"{" + b'"a": 1}  ',
    "cut off": file_of(0)[:20],
    "not JSON": struct.pack("<Q", 8) + b"{hello!}",
    "longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "nested": struct.pack("<Q", 400_000) + b'{"a":' * 80_000,
    "no header": b"hello, world",
    "empty": b"",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_whole_safetensors_file_is_refused(tmp_path: Path, case: str) -> None:
    """A file that says that it is safetensors, and whose tensors do not fill it, is refused by name."""
    with pytest.raises(ValueError, match=r"^weights\.safetensors is not a"):
        screen(tmp_path, "weights.safetensors", BROKEN[case])


def test_a_pickle_named_safetensors_is_refused(tmp_path: Path) -> None:
    """A pickle is refused whatever it is called."""
    with pytest.raises(ValueError, match="is a pickle"):
        screen(tmp_path, "weights.safetensors", b"\x80\x04}.")
