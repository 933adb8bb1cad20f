"""Looks into a layer, a folder or a zip file, and finds the package of every byte. It works on any layer, not only on ours."""

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from builder.errors import BuildError
from builder.native import side_file
from builder.native.split import SectionReport
from builder.python import archive_writer
from torch_layer import ARCHIVE_FILE, SIDE_FILE

# Kinds of content, and how the treemap names them.
KINDS = {
    "native": "native code and data",
    "cold-native": "native code, compressed",
    "bytecode": "Python bytecode",
    "source": "Python source",
    "cold-python": "Python modules, compressed",
    "metadata": "metadata and licences",
    "data": "other data",
}


class Entry(NamedTuple):
    """A file of the layer, or one owner's part of a file that several packages share."""

    path: str  # relative to the folder or zip file
    bytes: int
    package: str
    kind: str  # one of KINDS


class Contents(NamedTuple):
    """What is in a layer."""

    entries: tuple[Entry, ...]
    sections: dict[str, tuple[SectionReport, ...]]  # by path of the library
    files: int

    @property
    def bytes(self) -> int:
        """All of it, unzipped."""
        return sum(entry.bytes for entry in self.entries)


_MINIMUM_LIBRARY_BYTES = 100_000
Opener = Callable[[str], AbstractContextManager[Path]]


def look_into(path: Path) -> Contents:
    """List the content of a folder or a zip file.

    Raises:
        BuildError: `path` is no folder and no zip file, or is damaged.
    """
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        return _contents({name: file.stat().st_size for name, file in files.items()}, lambda name: _same(files[name]))
    if not path.exists():
        raise BuildError(f"{path} does not exist", "name a layer's folder or zip file, or build one with: make layer")
    try:
        with zipfile.ZipFile(path) as zipped:
            sizes = {item.filename: item.file_size for item in zipped.infolist() if not item.is_dir()}
            return _contents(sizes, lambda name: _unpacked(zipped, name))
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise BuildError(
            f"{path} is neither a folder nor a zip file: {error}", "name a layer's folder or zip file"
        ) from error


@contextmanager
def _same(path: Path) -> Iterator[Path]:
    yield path


@contextmanager
def _unpacked(zipped: zipfile.ZipFile, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(zipped.extract(name, folder))


def package_of(path: str) -> str:
    """The package that a path belongs to: the top-level name below the folders that Lambda puts on sys.path.

    `numpy` for `python/numpy.libs/libx.so`, `torch` for `python/torch-2.13.0.dist-info/METADATA`; outside of `python/`
    the first folder. Source: Lambda developer guide, "Packaging your layer content".
    """
    parts = PurePosixPath(path).parts
    if parts[0] == "python":
        parts = parts[1:]
        if len(parts) > 3 and parts[0] == "lib" and parts[2] == "site-packages":
            parts = parts[3:]
    first = parts[0] if parts else path
    for suffix in (".dist-info", ".egg-info"):
        if first.endswith(suffix):
            return first.removesuffix(suffix).rpartition("-")[0].replace("-", "_") or first
    first = first.removesuffix(".libs") if len(parts) > 1 else first.partition(".")[0]
    if first == "__pycache__" and len(parts) > 1:
        return parts[1].partition(".")[0]
    return first


def kind_of(path: str) -> str:
    """The kind of a file, one of KINDS, by its name."""
    pure = PurePosixPath(path)
    if any(part.endswith((".dist-info", ".egg-info")) for part in pure.parts):
        return "metadata"
    if pure.suffix == ".so" or ".so." in pure.name or pure.name == "torch_shm_manager":
        return "native"
    return {".py": "source", ".pyc": "bytecode"}.get(pure.suffix, "data")


def _contents(sizes: dict[str, int], opened: Opener) -> Contents:
    entries: list[Entry] = []
    sections: dict[str, tuple[SectionReport, ...]] = {}
    for name, size in sizes.items():
        base = PurePosixPath(name).name
        if base == ARCHIVE_FILE:
            with opened(name) as path:
                entries += _shared(name, size, archive_shares(path), "cold-python")
            continue
        if base == SIDE_FILE:
            with opened(name) as path:
                entries += _shared(name, size, library_shares(path), "cold-native")
            continue
        entries.append(Entry(name, size, package_of(name), kind_of(name)))
        if kind_of(name) == "native" and size >= _MINIMUM_LIBRARY_BYTES:
            with opened(name) as path:
                sections[name] = sections_of(path)
    return Contents(tuple(sorted(entries)), sections, len(sizes))


def _shared(name: str, size: int, shares: dict[str, int], kind: str) -> list[Entry]:
    """The bytes of a file by owner. The rest, such as an index, belongs to torch_layer."""
    parts = [Entry(f"{name}/{owner}", count, package_of(owner), kind) for owner, count in sorted(shares.items())]
    return [*parts, Entry(f"{name}/index", size - sum(shares.values()), "torch_layer", kind)]


def archive_shares(path: Path) -> dict[str, int]:
    """Compressed bytes of `modules.cold` by folder of modules, two levels deep. Each module has its share of its block."""
    try:
        index = archive_writer.read_index(path)
    except (ValueError, EOFError, TypeError, zlib.error) as error:
        raise BuildError(f"{path} cannot be read: {error}", "build the layer again, with this builder") from error
    shares: dict[str, int] = {}
    for members in (index.code, index.source):
        for member, (number, _, size) in members.items():
            block = index.blocks[number]
            owner = "/".join(member.split("/")[:-1][:2]) or member
            shares[owner] = shares.get(owner, 0) + block.stored * size // max(block.bytes, 1)
    return shares


def library_shares(path: Path) -> dict[str, int]:
    """Compressed bytes of `libraries.cold` by library."""
    return {library.name: sum(block.stored for block in library.blocks) for library in side_file.read_index(path)}


def sections_of(path: Path) -> tuple[SectionReport, ...]:
    """The sections of an ELF file that have bytes in it, largest first; empty if there is no section table."""
    try:
        with path.open("rb") as file:
            found = [
                SectionReport(section.name, section["sh_size"], hot=section["sh_size"])
                for section in ELFFile(file).iter_sections()
                if section["sh_type"] not in ("SHT_NOBITS", "SHT_NULL")
            ]
    except (ELFError, OSError, ValueError):
        return ()  # the name is that of an ELF file and the content is not; its bytes count all the same
    return tuple(sorted(found, key=lambda section: -section.bytes))
