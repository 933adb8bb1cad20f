"""The named outputs of a workload run, in a safetensors file, so that two runs can be compared bit for bit.

The file has the public safetensors layout (https://github.com/huggingface/safetensors#format): eight bytes of header
length, a JSON header, the data. The standard library is enough to read and write it, so the process that compares two
trees imports torch from neither. That is why this module lies outside the package `workload`, which imports torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from builder.errors import OutputsFileError

_AGAIN = "run the workload again (python -m builder.workload --output FILE)"


class FrozenOutput(NamedTuple):
    """One output: safetensors dtype name (`F32`, `BF16`, ...), shape, and the bytes in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def write_outputs(path: Path, results: Mapping[str, FrozenOutput], metadata: Mapping[str, str]) -> None:
    """Write `results` in sorted order, with `metadata` under safetensors' `__metadata__`."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, result in sorted(results.items()):
        end = offset + len(result.data)
        header[name] = {"dtype": result.dtype, "shape": list(result.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, result in sorted(results.items()):
            file.write(result.data)


def read_outputs(path: Path) -> tuple[dict[str, FrozenOutput], dict[str, str]]:
    """Read what `write_outputs` wrote: (outputs by name, metadata). Raises `OutputsFileError` for anything else."""
    content = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        data = memoryview(content)[8 + length :]
        results = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= len(data):
                raise OutputsFileError(f"{path} was cut short: {name} lies outside it", _AGAIN)
            results[name] = FrozenOutput(entry["dtype"], tuple(entry["shape"]), bytes(data[start:end]))
    except (struct.error, ValueError, AttributeError, KeyError, TypeError) as error:
        raise OutputsFileError(f"{path} is not a file of the workload's outputs: {error}", _AGAIN) from error
    return results, metadata


def differences(expected: Mapping[str, FrozenOutput], actual: Mapping[str, FrozenOutput]) -> list[str]:
    """One line for each output that is missing, new, or different in any bit; empty if all are equal."""
    lines = [f"{name}: missing" for name in sorted(expected.keys() - actual.keys())]
    lines += [f"{name}: not in the reference" for name in sorted(actual.keys() - expected.keys())]
    for name in sorted(expected.keys() & actual.keys()):
        want, got = expected[name], actual[name]
        if (want.dtype, want.shape) != (got.dtype, got.shape):
            lines.append(f"{name}: {got.dtype}{list(got.shape)} where {want.dtype}{list(want.shape)} was expected")
        elif want.data != got.data:
            lines.append(f"{name}: {_first_difference(want, got)}")
    return lines


def _first_difference(want: FrozenOutput, got: FrozenOutput) -> str:
    if want.dtype == "U8" and _is_text(want.data) and _is_text(got.data):
        return f"{got.data.decode()!r} where {want.data.decode()!r} was expected"
    differing = [i for i, (a, b) in enumerate(zip(want.data, got.data, strict=True)) if a != b]
    return f"{len(differing)} of {len(want.data)} bytes differ, the first at byte {differing[0]} ({want.dtype}{list(want.shape)})"


def _is_text(data: bytes) -> bool:
    try:
        return data.decode().replace("\n", " ").isprintable()
    except UnicodeDecodeError:
        return False
