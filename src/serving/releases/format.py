"""The release format: the JSON documents in the bucket, their rules, and the names of the objects.

    channels/<name>.json            which release a channel serves, which it served before, and a canary
    releases/V/manifest.json        every file's size and SHA-256, golden examples, metrics
    releases/V/<file>               the files themselves, never changed once written

V is a SHA-256 of the files' names and contents (`version_of`), and a channel names the manifest's SHA-256 beside V. So
each document proves the next, and a byte that differs anywhere is found before it is used. `docs/releases.md` is the
format's specification.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_validator,
)

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION: Final = 1

# No document of this format is larger: a manifest has at most 1,000 files and 100 golden examples.
MAX_DOCUMENT_BYTES = 4_194_304
# Lambda's /tmp holds at most 10 GiB, so no usable file is larger. This is checked before any space is reserved.
MAX_FILE_BYTES = 10 * 1024**3

# A publisher knows programs by these names. Readers look only at the manifest's `format`.
PROGRAM_SUFFIXES: Mapping[str, Literal["torchscript", "torch.export"]] = {
    ".pt2": "torch.export",
    ".torchscript": "torchscript",
}

# ISO 8601 with a date and a time: pydantic alone would also take a number of seconds.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", re.DOTALL)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def is_file_name(name: str) -> bool:
    """Whether a release may have a file of that name."""
    return _FILE_NAME.fullmatch(name) is not None and len(name) <= 255 and name != MANIFEST_NAME


def _safe_name(name: str) -> str:
    """Refuse anything but a relative POSIX path of plain names, which cannot leave the release's folder."""
    if not is_file_name(name):
        raise ValueError(f"{name[:300]!r} is not a file name that a release may have")
    return name


def _writable(value: JsonValue) -> JsonValue:
    """Refuse what cannot be written as JSON again. Python reads half a character, and numbers that are too large."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair, which is no character") from None
    except ValueError:
        raise ValueError("a number in it is not finite") from None
    return value


def _known_version(version: int) -> int:
    if version != SCHEMA_VERSION:
        raise ValueError(f"this reader knows version {SCHEMA_VERSION}, and this is version {version}")
    return version


def _moment(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise ValueError("has to be a text with date, time and offset in ISO 8601, such as 2026-01-31T12:00:00Z")


# Strict numbers: `true` is no number, though Python's True equals 1.
SchemaVersion = Annotated[int, AfterValidator(_known_version)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, AfterValidator(_safe_name)]
ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Example = Annotated[JsonValue, AfterValidator(_writable)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_moment)]


class Document(BaseModel):
    """The base of all documents: types are strict, and fields that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


D = TypeVar("D", bound=Document)


class FileEntry(Document):
    """One file of a release: its size in bytes and the SHA-256 of its content.

    Attributes:
        format: what kind of program the file is; None for data, as nearly all files are (see
            `serving.releases.screening`).
    """

    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Sha256
    format: Literal["torchscript", "torch.export"] | None = None


class GoldenExample(Document):
    """A request and the response that the release must give to it before it may serve.

    Attributes:
        request: the request, as a client sends it.
        response: the response, as a client gets it.
        tolerance: how much a number of the response may differ, absolute or relative; text must be equal.
    """

    request: Example
    response: Example
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.0


class Manifest(Document):
    """`releases/<version>/manifest.json`."""

    schema_version: SchemaVersion
    version: Sha256
    created: Moment
    note: Annotated[str, Field(max_length=1000)] = ""
    files: Annotated[dict[FileName, FileEntry], Field(min_length=1, max_length=1000)]
    frameworks: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    golden: Annotated[list[GoldenExample], Field(max_length=100)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _version_is_of_these_files(self) -> Self:
        expected = version_of(self.files)
        if self.version != expected:
            raise ValueError(f"its files make version {expected}, but it calls itself {self.version}")
        folders = {parent for name in self.files for parent in _parents(name)}
        if both := sorted(folders & set(self.files)):
            raise ValueError(f"{both[0]} is a file and a folder")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())


class ReleaseRef(Document):
    """Names a release so that nothing in it can change: its version, and its manifest's SHA-256."""

    version: Sha256
    manifest_sha256: Sha256


class Canary(ReleaseRef):
    """A release that answers a share of the requests."""

    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Channel(Document):
    """`channels/<name>.json`: what serves now, what served before, and an optional canary."""

    schema_version: SchemaVersion
    current: ReleaseRef
    previous: ReleaseRef | None = None
    canary: Canary | None = None
    updated: Moment

    @model_validator(mode="after")
    def _names_different_releases(self) -> Self:
        if self.canary is not None and self.canary.version == self.current.version:
            raise ValueError("its canary is its current release")
        if self.previous is not None and self.previous.version == self.current.version:
            raise ValueError("its previous release is its current one")
        return self


def parse(kind: type[D], content: bytes) -> D:
    """Read a document.

    Raises:
        ValueError: it is not JSON, has a key twice, or breaks a rule of its kind; the message says which.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where[:300] or 'it'}: {first['msg']}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dump(document: Document) -> bytes:
    """The document's bytes, as they are stored; the same document always gives the same bytes."""
    return (document.model_dump_json(indent=1) + "\n").encode()


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two equal keys, one reader takes the first and another the last: they would see different releases.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("it has a key twice")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def version_of(files: Mapping[str, FileEntry]) -> str:
    """The version of these files: what `sha256sum $(ls) | sha256sum` prints in their folder, in the C locale."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_key(version: str, name: str) -> str:
    """The S3 key of one file of a release."""
    return f"releases/{version}/{name}"


def channel_key(channel: str) -> str:
    """The S3 key of a channel's pointer."""
    return f"channels/{channel}.json"


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, left_out: Callable[[str], bool] = lambda _name: False) -> dict[str, FileEntry]:
    """The files of a release folder as a manifest lists them.

    Args:
        folder: the release folder.
        left_out: whether the file of that name is no part of the release.

    Raises:
        ValueError: the folder is empty, or holds something that a release cannot hold (a link, an unusual name, a
            manifest).
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if (not path.is_dir() or path.is_symlink()) and not left_out(path.relative_to(folder).as_posix())
    )
    if not paths:
        raise ValueError(f"{folder} has no files")
    files: dict[str, FileEntry] = {}
    for path in paths:
        name = _safe_name(path.relative_to(folder).as_posix())
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is not a regular file")
        files[name] = FileEntry(
            size=path.stat().st_size, sha256=digest_of(path), format=PROGRAM_SUFFIXES.get(path.suffix)
        )
    return files
