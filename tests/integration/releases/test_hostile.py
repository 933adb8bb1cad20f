"""Generated hostile input, for a bounded number of examples: refused with ValueError, by the readers of documents and of weights.

Memory is bounded too: a few hundred bytes that claim gigabytes must not make anybody reserve them.
"""

import contextlib
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from integration.releases.samples import folder_of
from model import Model
from serving.releases.format import Channel, Manifest, dump, parse
from serving.releases.room import memory_in_use

MEGABYTE = 1024 * 1024
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

SHA = "0" * 64
GOOD_MANIFEST = {
    "schema_version": 1,
    "version": "53d743f33b897204dd8c5442651c6bb773fd59ebb101222fe2fcf900b26e4bef",
    "created": "2026-01-01T00:00:00Z",
    "note": "",
    "files": {"a": {"size": 1, "sha256": SHA}},
    "frameworks": {"torch": "2"},
    "metrics": {"loss": 1.5},
    "golden": [{"request": {"x": 1}, "response": [1], "tolerance": 0.1}],
}
REF = {"version": "1" * 64, "manifest_sha256": "2" * 64}
GOOD_CHANNEL = {
    "schema_version": 1,
    "current": REF,
    "previous": {"version": "3" * 64, "manifest_sha256": "2" * 64},
    "canary": {"version": "4" * 64, "manifest_sha256": "2" * 64, "share": 0.5},
    "updated": "2026-01-01T00:00:00+02:00",
}

odd_text = st.sampled_from(
    [
        "",
        "../x",
        "/etc/passwd",
        "a/../b",
        "a\\b",
        "a\x00b",
        "\ud800",
        "é",
        "manifest.json",
        "x" * 5000,
        "a/" * 100,
        "1e999",
        SHA,
        "NaN",
    ]
) | st.text(max_size=10)
odd_numbers = (
    st.sampled_from(
        [-1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1e308, float("inf"), float("-inf"), float("nan"), -0.0, True, None]
    )
    | st.floats()
    | st.integers()
)
odd = st.recursive(
    odd_text | odd_numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The JSON value with another one in this place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(("kind", "good"), [(Manifest, GOOD_MANIFEST), (Channel, GOOD_CHANNEL)])
@settings(max_examples=300, deadline=None, suppress_health_check=SUPPRESSED)
@given(data=st.data())
def test_a_document_with_anything_anywhere_is_read_or_refused(
    kind: type[Manifest | Channel], good: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever stands in whichever place of a good document: a ValueError, or a document that can be written and read again."""
    assert parse(kind, json.dumps(good).encode())
    document = good
    for _ in range(data.draw(st.integers(1, 3))):
        document = changed(document, data.draw(st.sampled_from(places(document))), data.draw(odd))
    try:
        text = json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode(errors="surrogatepass")
        read = parse(kind, text)
    except ValueError:
        return
    assert parse(kind, dump(read)) == read


@pytest.mark.parametrize(("kind", "good"), [(Manifest, GOOD_MANIFEST), (Channel, GOOD_CHANNEL)])
@settings(max_examples=300, deadline=None, suppress_health_check=SUPPRESSED)
@given(data=st.data())
def test_a_document_with_broken_bytes_is_read_or_refused(
    kind: type[Manifest | Channel], good: dict[str, Any], data: st.DataObject
) -> None:
    """Bytes that are changed, cut, doubled or put in: a document or a ValueError, never another exception."""
    content = json.dumps(good).encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    middle = data.draw(
        st.binary(max_size=20)
        | st.sampled_from([b"", content[start:end] * 2, b"[" * 2000, b"9" * 5000, b'{"a":' * 500])
    )
    with contextlib.suppress(ValueError):
        parse(kind, content[:start] + middle + content[end:])


def test_nesting_and_numbers_without_end_are_refused() -> None:
    """A document that is all brackets, digits or braces costs a ValueError and no more."""
    for text in (b"[" * 4_000_000, b'{"a":' * 800_000, b"9" * 4_000_000, b'{"note": "' + b"\\u0000" * 600_000 + b'"}'):
        with pytest.raises(ValueError, match=r"."):
            parse(Manifest, text)
    golden = json.dumps([{"request": 1, "response": 1}]).replace('"request": 1', '"request": ' + "[" * 900 + "]" * 900)
    with pytest.raises(ValueError, match=r"."):
        parse(Manifest, json.dumps(GOOD_MANIFEST).replace('"golden": [', f'"golden": {golden[:-1]}, [').encode())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good release folder."""
    return folder_of(tmp_path_factory.mktemp("hostile") / "good", 1)


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header, and the data behind it (the format: eight bytes of length, JSON, data)."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file with this header, whatever it says."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def loads(folder: Path, content: bytes) -> None:
    """Load the release with these bytes as its weights; every exception but ValueError, and every large allocation, fails."""
    (folder / "weights.safetensors").write_bytes(content)
    before = memory_in_use()
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            Model.load(folder)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 * MEGABYTE
    assert memory_in_use() - before < 64 * MEGABYTE


sizes = st.sampled_from([-1, 0, 1, 7, 16, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 2**64, 1.5, None, "1"])
tensors = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3", "F4", "f32", "", "COMPLEX", None, 1]),
        "shape": st.lists(sizes, max_size=4) | sizes,
        "data_offsets": st.lists(sizes, max_size=3) | sizes,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=SUPPRESSED)
@given(data=st.data())
def test_a_hostile_header_of_weights_is_refused(data: st.DataObject, weights: Path, tmp_path: Path) -> None:
    """Huge, shared, overlapping, missing and mistyped tensors in a header: loaded because harmless, or a ValueError."""
    folder = tmp_path / "release"
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_bytes((weights / "model.json").read_bytes())
    header, rest = header_of((weights / "weights.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*header, "extra", "__metadata__"]))
        change = data.draw(tensors | odd)
        header[name] = (
            {**header[name], **change} if isinstance(change, dict) and isinstance(header.get(name), dict) else change
        )
    length = data.draw(st.none() | st.sampled_from([0, 1, 8, 2**20, 2**27, 2**40, 2**63, 2**64 - 1]))
    rest = rest[: data.draw(st.sampled_from([len(rest), 0, len(rest) - 1]))] + data.draw(
        st.sampled_from([b"", b"\0", b"\0" * 64])
    )
    loads(folder, with_header(header, rest, length))


@settings(max_examples=100, deadline=None, suppress_health_check=SUPPRESSED)
@given(data=st.data())
def test_weights_with_broken_bytes_are_refused(data: st.DataObject, weights: Path, tmp_path: Path) -> None:
    """A file that is cut, or whose header's bytes are changed: loaded because harmless, or a ValueError."""
    folder = tmp_path / "release"
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_bytes((weights / "model.json").read_bytes())
    content = bytearray((weights / "weights.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    loads(folder, bytes(content[: data.draw(st.integers(0, 700) | st.just(len(content)))]))


REFUSED: dict[str, Any] = {
    "another type": lambda tensors: {**tensors, "i2h.bias": tensors["i2h.bias"].to(torch.float16)},
    "NaN": lambda tensors: {**tensors, "i2h.bias": torch.full_like(tensors["i2h.bias"], float("nan"))},
    "infinite": lambda tensors: {**tensors, "o2o.weight": tensors["o2o.weight"] / 0},
    "missing": lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "i2o.bias"},
    "one too many": lambda tensors: {**tensors, "extra": torch.zeros(1)},
    "another shape": lambda tensors: {**tensors, "i2h.bias": torch.zeros(17)},
    "an empty tensor": lambda tensors: {**tensors, "i2h.bias": torch.zeros(0)},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_weights_of_another_network_are_refused(change: Any, weights: Path, tmp_path: Path) -> None:
    """A whole, valid safetensors file that is not this network's is a ValueError that names the file."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "model.json").write_bytes((weights / "model.json").read_bytes())
    save_file(change(load_file(weights / "weights.safetensors")), folder / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        Model.load(folder)


def test_tensors_that_share_their_bytes_are_refused(weights: Path, tmp_path: Path) -> None:
    """Two tensors over the same bytes of the file, or bytes that no tensor has, make no valid file."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "model.json").write_bytes((weights / "model.json").read_bytes())
    header, rest = header_of((weights / "weights.safetensors").read_bytes())
    header["o2o.bias"]["data_offsets"] = header["i2o.bias"]["data_offsets"]
    for content in (with_header(header, rest), (weights / "weights.safetensors").read_bytes() + b"\0" * 8):
        (folder / "weights.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            Model.load(folder)
