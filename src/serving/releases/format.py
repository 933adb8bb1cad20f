"""The release format: the JSON documents in the bucket, their rules, and the names of the objects.

    channels/<name>.json            which release a channel serves, which it served before, and a canary
    releases/V/manifest.json        every file's size and SHA-256, golden examples, metrics
    releases/V/<file>               the files themselves, never changed once written

V is a SHA-256 over the files' names and contents (`version_of`), and a channel names the manifest's SHA-256 beside V. So channel,
manifest and files vouch for each other, and a byte that differs anywhere is found before it is used. `docs/releases.md` is the
format's specification.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_validator,
)

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION: Final = 1

# A document larger than this is not one of ours (a manifest entry is some 150 bytes).
MAX_DOCUMENT_BYTES = 4_194_304
# S3 takes objects of up to 5 TiB; Lambda's /tmp holds 10 GiB. A size above is a lie, and is refused before anything is reserved.
MAX_FILE_BYTES = 10 * 1024**3

# By these names a publisher declares that a file is a program; readers go by the manifest alone.
PROGRAM_SUFFIXES: Mapping[str, Literal["torchscript", "torch.export"]] = {
    ".pt2": "torch.export",
    ".torchscript": "torchscript",
}

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def _safe_name(name: str) -> str:
    """A relative POSIX path of plain names: nothing that could leave the release's folder."""
    if not _FILE_NAME.fullmatch(name) or len(name) > 255 or name == MANIFEST_NAME:
        raise ValueError(f"{name[:300]!r} is not a file name that a release may have")
    return name


def _writable(value: JsonValue) -> JsonValue:
    """A JSON value that comes back from JSON text as it is; Python reads half a character, and numbers beyond a float's range."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair, which is no character") from None
    except ValueError:
        raise ValueError("a number in it is not finite") from None
    return value


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, AfterValidator(_safe_name)]
ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Example = Annotated[JsonValue, AfterValidator(_writable)]
Created = Annotated[AwareDatetime, Field(strict=False)]


class Document(BaseModel):
    """Base of everything that is read from a bucket: strict types; fields that a later minor version adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


D = TypeVar("D", bound=Document)


class FileEntry(Document):
    """One file of a release: its size in bytes and the SHA-256 of its content.

    Attributes:
        format: what kind of program the file is; None for data, which nearly all files are (see `serving.releases.screening`).
    """

    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Sha256
    format: Literal["torchscript", "torch.export"] | None = None


class GoldenExample(Document):
    """A request and the response that the release must give to it before it may serve.

    Attributes:
        request: the request, as a client sends it.
        response: the response, as a client gets it.
        tolerance: how far a number of the response may be off, absolute and relative; text must be equal.
    """

    request: Example
    response: Example
    tolerance: Annotated[FiniteFloat, Field(ge=0, strict=False)] = 0.0


class Manifest(Document):
    """`releases/<version>/manifest.json`."""

    schema_version: Literal[1]
    version: Sha256
    created: Created
    note: Annotated[str, Field(max_length=1000)] = ""
    files: Annotated[dict[FileName, FileEntry], Field(min_length=1, max_length=1000)]
    frameworks: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, Annotated[FiniteFloat, Field(strict=False)]] = Field(default_factory=dict)
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
    """A release, named so that nothing about it can change: its version, and its manifest's SHA-256."""

    version: Sha256
    manifest_sha256: Sha256


class Canary(ReleaseRef):
    """A release that answers a share of the requests."""

    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Channel(Document):
    """`channels/<name>.json`: what is served now, what was served before, and an optional canary."""

    schema_version: Literal[1]
    current: ReleaseRef
    previous: ReleaseRef | None = None
    canary: Canary | None = None
    updated: Created

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
    # Two readers that pick different ones of two equal keys would see different releases.
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
    """The version that these files make: what `sha256sum $(ls) | sha256sum` prints in the C locale, in the release's folder."""
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


def describe(folder: Path) -> dict[str, FileEntry]:
    """The files of a release folder as a manifest lists them.

    Raises:
        ValueError: the folder is empty, or holds something that a release cannot (a link, an odd name, a manifest).
    """
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
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
