"""The wheels that the doctor examines: what their names and their metadata say, and their files."""

import base64
import csv
import email
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from builder.errors import RequirementsError
from builder.stage import prune

# Wheels are opened here that nobody has installed yet. torch 2.15 has 1.5 GB, with its CUDA libraries.
_MOST_BYTES = 8_000_000_000


class Examined(NamedTuple):
    """One wheel.

    Attributes:
        path: The file.
        name: The distribution, normalised: `torch`.
        version: With its local part: `2.15.0+cpu`.
        tags: What it is for, from its name.
        requirements: `Requires-Dist` of its metadata.
        hashes: sha256 of each file in hex, by path, as its RECORD has them.
        sizes: Bytes of each file, by path.
    """

    path: Path
    name: str
    version: str
    tags: frozenset[Tag]
    requirements: tuple[Requirement, ...]
    hashes: dict[str, str]
    sizes: dict[str, int]

    @property
    def minor(self) -> tuple[int, int]:
        """`(2, 15)`."""
        major, minor = self.version.partition("+")[0].split(".")[:2]
        return int(major), int(minor)

    def unpack(self, folder: Path) -> None:
        """Write the files that the layer would have: all but those of the prune rules.

        Raises:
            RequirementsError: The wheel is damaged, or a name leads out of the folder.
        """
        with _opened(self.path) as archive:
            for name in self.sizes:
                if prune.rule_for(name) is None:
                    archive.extract(name, folder)


def examine(path: Path) -> Examined:
    """Read a wheel's name and metadata.

    Raises:
        RequirementsError: It is no wheel, or it is damaged.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise RequirementsError(f"{path} is not named as a wheel is: {error}", _NEXT) from error
    with _opened(path) as archive:
        entries = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        if sum(entries.values()) > _MOST_BYTES:
            raise RequirementsError(f"{path} has more than {_MOST_BYTES:,} bytes when it is unpacked", _NEXT)
        information = {file.rpartition("/")[2]: file for file in entries if _is_information(file)}
        if not {"METADATA", "RECORD"} <= information.keys():
            raise RequirementsError(f"{path} has no METADATA or no RECORD", _NEXT)
        metadata = email.message_from_bytes(archive.read(information["METADATA"]))
        record = archive.read(information["RECORD"]).decode()
    try:
        requirements = tuple(Requirement(text) for text in metadata.get_all("Requires-Dist", []))
    except InvalidRequirement as error:
        raise RequirementsError(f"{path} asks for something that is no requirement: {error}", _NEXT) from error
    return Examined(path, name, str(version), tags, requirements, dict(_hashes(record)), entries)


def _is_information(file: str) -> bool:
    folder, _, name = file.partition("/")
    return folder.endswith(".dist-info") and name in ("METADATA", "RECORD")


def _hashes(record: str) -> Iterator[tuple[str, str]]:
    for path, digest, _ in csv.reader(io.StringIO(record)):
        if digest:
            yield path, base64.urlsafe_b64decode(f"{digest.removeprefix('sha256=')}==").hex()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RequirementsError(f"{path} cannot be read as a wheel: {error}", _NEXT) from error


_NEXT = "name the file of a wheel, as `pip download --no-deps torch==...` brings it"
