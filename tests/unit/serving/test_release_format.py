import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.releases.format import (
    SCHEMA_VERSION,
    Channel,
    FileEntry,
    GoldenExample,
    Manifest,
    describe,
    dump,
    parse,
    version_of,
)

CREATED = datetime(2026, 1, 2, tzinfo=UTC)


def folder_with(tmp_path: Path, **files: bytes) -> Path:
    """The folder, with these files in it."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def manifest_of(files: dict[str, FileEntry], **more: Any) -> Manifest:
    """A manifest of these files."""
    return Manifest(schema_version=SCHEMA_VERSION, version=version_of(files), created=CREATED, files=files, **more)


def test_a_version_is_what_sha256sum_says(tmp_path: Path) -> None:
    """Anyone can name a release with coreutils: `sha256sum $(ls) | sha256sum` in its folder."""
    folder = folder_with(tmp_path, b=b"two", a=b"one")
    shell = subprocess.run(
        "sha256sum $(LC_ALL=C ls) | sha256sum", shell=True, cwd=folder, capture_output=True, check=True
    )
    assert version_of(describe(folder)) == shell.stdout.decode().split()[0]


@given(
    st.dictionaries(
        st.text("abcXYZ019._-", min_size=1, max_size=8).filter(lambda n: n[0] not in ".-"),
        st.binary(max_size=9),
        min_size=1,
    )
)
def test_a_manifest_survives_json(files: dict[str, bytes]) -> None:
    """What is written is what is read, for any files."""
    entries = {name: FileEntry(size=len(content), sha256="0" * 64) for name, content in files.items()}
    manifest = manifest_of(
        entries, note="é", metrics={"loss": 0.5}, golden=[GoldenExample(request={"x": 1}, response=[1.5])]
    )
    assert parse(Manifest, dump(manifest)) == manifest


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema_version": 2}, "schema_version: .* version 1, and this is version 2"),
        ({"schema_version": True}, "schema_version: .* valid integer"),
        ({"schema_version": 1.0}, "schema_version: .* valid integer"),
        ({"schema_version": "1"}, "schema_version: .* valid integer"),
        ({"version": "0" * 64}, "calls itself"),
        ({"version": "../x"}, "version"),
        ({"files": {}}, "files"),
        ({"files": {"../weights": {"size": 1, "sha256": "0" * 64}}}, "not a file name"),
        ({"files": {"/etc/passwd": {"size": 1, "sha256": "0" * 64}}}, "not a file name"),
        ({"files": {"a//b": {"size": 1, "sha256": "0" * 64}}}, "not a file name"),
        ({"files": {"manifest.json": {"size": 1, "sha256": "0" * 64}}}, "not a file name"),
        ({"files": {"a": {"size": -1, "sha256": "0" * 64}}}, "greater than or equal to 0"),
        ({"files": {"a": {"size": 1.5, "sha256": "0" * 64}}}, "valid integer"),
        ({"files": {"a": {"size": True, "sha256": "0" * 64}}}, "valid integer"),
        ({"files": {"a": {"size": 1, "sha256": "0" * 63}}}, "pattern"),
        ({"files": {"a": {"size": 10**15, "sha256": "0" * 64}}}, "less than or equal"),
        ({"created": "yesterday"}, "created"),
        ({"created": "2026-01-02T00:00:00"}, "created: .* timezone"),
        ({"created": 1_767_312_000}, "created: .* ISO 8601"),
        ({"created": "1767312000"}, "created: .* ISO 8601"),
        ({"created": True}, "created: .* ISO 8601"),
        ({"metrics": {"loss": "low"}}, "metrics"),
        ({"metrics": {"loss": "0.5"}}, "metrics"),
        ({"metrics": {"loss": True}}, "metrics"),
        ({"note": 1}, "note"),
        ({"golden": [{"request": 1}]}, "golden"),
        ({"golden": [{"request": 1, "response": 1, "tolerance": -1}]}, "golden"),
        ({"golden": [{"request": 1, "response": 1, "tolerance": True}]}, "golden"),
        ({"golden": [{"request": 1, "response": 1, "tolerance": "0"}]}, "golden"),
        ({"golden": [{"request": {"a": ["\ud800"]}, "response": 1}]}, "golden.0.request: .* surrogate pair"),
        ({"golden": [{"request": 1, "response": {"\udfff": 1}}]}, "golden.0.response: .* surrogate pair"),
    ],
)
def test_a_hostile_manifest_is_refused(change: dict[str, object], why: str) -> None:
    """A manifest that lies about its version, or names files that could leave its folder, does not parse."""
    document = json.loads(dump(manifest_of({"a": FileEntry(size=1, sha256="0" * 64)}))) | change
    with pytest.raises(ValueError, match=why):
        parse(Manifest, json.dumps(document).encode())


def test_an_example_with_a_number_beyond_all_floats_is_refused() -> None:
    """`1e999` is JSON, but it is read as infinity, which JSON cannot say: what was read could not be written again."""
    example = GoldenExample(request={"x": 1999}, response=1)
    text = dump(manifest_of({"a": FileEntry(size=1, sha256="0" * 64)}, golden=[example]))
    with pytest.raises(ValueError, match=r"golden\.0\.request: .* not finite"):
        parse(Manifest, text.replace(b"1999", b"1e999"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe", "decode"),
        (b'{"schema_version": 1, "schema_version": 1}', "a key twice"),
        (b'{"schema_version": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "valid dictionary"),
        (b'{"schema_version": 1, "files": {"a": {"size": 1, "size": 2}}}', "a key twice"),
    ],
)
def test_a_document_that_is_no_plain_json_object_is_refused(text: bytes, why: str) -> None:
    """What JSON parsers read differently, or choke on, is refused before its content is looked at."""
    with pytest.raises(ValueError, match=why):
        parse(Manifest, text)


def test_a_file_cannot_be_a_folder_too() -> None:
    """A manifest with `a` and `a/b` cannot be laid out on a disk, and does not parse."""
    entries = {name: FileEntry(size=1, sha256="0" * 64) for name in ("a", "a/b")}
    document = {"schema_version": 1, "version": version_of(entries), "created": CREATED.isoformat()}
    files = {name: entry.model_dump() for name, entry in entries.items()}
    with pytest.raises(ValueError, match="a file and a folder"):
        parse(Manifest, json.dumps(document | {"files": files}).encode())


REF = {"version": "1" * 64, "manifest_sha256": "2" * 64}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"current": None}, "current"),
        ({"current": {"version": "live", "manifest_sha256": "2" * 64}}, "pattern"),
        ({"previous": REF}, "previous release is its current one"),
        ({"canary": REF | {"share": 0.5}}, "canary is its current release"),
        ({"canary": {"version": "3" * 64, "manifest_sha256": "2" * 64, "share": 1.0}}, "share"),
        ({"canary": {"version": "3" * 64, "manifest_sha256": "2" * 64, "share": 0}}, "share"),
        ({"canary": {"version": "3" * 64, "manifest_sha256": "2" * 64, "share": True}}, "share"),
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"updated": 0}, "updated"),
    ],
)
def test_a_hostile_pointer_is_refused(change: dict[str, object], why: str) -> None:
    """A pointer to nothing, to itself, or of another version of the format does not parse."""
    document = {"schema_version": 1, "current": REF, "updated": CREATED.isoformat()} | change
    with pytest.raises(ValueError, match=why):
        parse(Channel, json.dumps(document).encode())


keys = st.sampled_from(["schema_version", "files", "version", "current", "golden", "created", "x"])
values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_get_past_the_reader(content: bytes) -> None:
    """Whatever a bucket holds is a document or a ValueError, never another exception."""
    for kind in (Manifest, Channel):
        try:
            parse(kind, content)
        except ValueError:
            continue


def test_a_folder_that_cannot_be_a_release_is_refused(tmp_path: Path) -> None:
    """An empty folder, a link and an odd file name are each refused by name before anything is uploaded."""
    with pytest.raises(ValueError, match="no files"):
        describe(tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="not a regular file"):
        describe(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / ".hidden").touch()
    with pytest.raises(ValueError, match="not a file name"):
        describe(tmp_path)
