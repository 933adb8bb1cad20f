"""Which packages that a user adds to the layer are packed as torch's own are, and which stay files. Rules are data.

A large package is packed: its sources go into the archive, and bytecode is kept of what the workload of the libraries
runs (`builder.extra_workload`). A small one stays as it is, since there is little to gain. So does one that looks for its own
sources in the file system, unless a row says that this is no matter.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from builder.python import source_changes
from builder.python.tiers import PACKED

# Below this, packing saves less than a megabyte.
LEAST_SOURCE_BYTES = 500_000


class ReviewedModule(NamedTuple):
    """A module that lists or opens files of its own package, and that works all the same when sources are no files."""

    pattern: str  # matched against the whole path below the tree
    reason: str


REVIEWED = (
    ReviewedModule(r".*/tests?/.*|.*/(conftest|testing_utils|_testutils)\.py", "only the package's own tests run it"),
    ReviewedModule(r"transformers/dynamic_module_utils\.py", "the files that it opens are those of a user's own model"),
    ReviewedModule(
        r"transformers/processing_utils\.py",
        "lists templates of a saved model; its import of the package: SourceChange",
    ),
    ReviewedModule(
        r"transformers/utils/import_utils\.py",
        "what it reads from the sources is kept: `answers`; loaders: SourceChange",
    ),
    ReviewedModule(r"huggingface_hub/serialization/_torch\.py", "lists the folder of a saved model"),
    ReviewedModule(r"sklearn/__check_build/__init__\.py", "lists its folder for the message of a failed import"),
    ReviewedModule(r"pygments/lexers/_php_builtins\.py", "writes itself again, and only as a script"),
)


class KeptPackage(NamedTuple):
    """A large package that stays files, whatever is in it."""

    name: str
    reason: str


KEPT_AS_FILES: tuple[KeptPackage, ...] = (
    KeptPackage("torchgen", "a part of torch, listed there"),
    KeptPackage("pip", "runs itself by the path of its folder"),
)

# A module with a word of both kinds may look for sources of its own package.
_LISTS = re.compile(rb"\b(?:listdir|scandir|iterdir|r?glob|walk)\s*\(|\bspec_from_file_location\s*\(")
_OWN_PLACE = re.compile(rb"__file__|__path__|\bgetsourcefile\b|\bgetfile\(")


class LeftPackage(NamedTuple):
    """A large package that stays files, and why."""

    name: str
    reason: str


class ExtraPackages(NamedTuple):
    """What becomes of the packages of a tree.

    Attributes:
        packed: top-level names of all packages whose modules leave the file system, torch's own included.
        extra: those of them that a user has added, in order of names.
        left: large packages that stay files.
    """

    packed: frozenset[str]
    extra: tuple[str, ...]
    left: tuple[LeftPackage, ...]


def choose(tree: Path, files: Sequence[str]) -> ExtraPackages:
    """Decide for every top-level package of a tree.

    Args:
        tree: the tree after strip.
        files: paths of its files, relative to it.
    """
    sources: dict[str, list[str]] = {}
    for path in files:
        package, _, rest = path.partition("/")
        if rest and path.endswith(".py"):
            sources.setdefault(package, []).append(path)
    extra: list[str] = []
    left: list[LeftPackage] = []
    for package, paths in sorted(sources.items()):
        if package in PACKED or f"{package}/__init__.py" not in paths:
            continue
        texts = {path: (tree / path).read_bytes() for path in paths}
        if sum(map(len, texts.values())) < LEAST_SOURCE_BYTES:
            continue
        reason = _reason_to_stay(package, texts)
        if reason:
            left.append(LeftPackage(package, reason))
        else:
            extra.append(package)
    return ExtraPackages(PACKED.union(extra), tuple(extra), tuple(left))


def _reason_to_stay(package: str, texts: Mapping[str, bytes]) -> str:
    """Why the package stays files; empty if it does not."""
    for kept in KEPT_AS_FILES:
        if kept.name == package:
            return kept.reason
    if unfit := source_changes.unfit(texts):
        return f"{unfit} is not as in the versions that were tried"
    looking = _looking(texts)
    return f"{looking[0]} may look for the package's own sources" if looking else ""


def _looking(texts: Mapping[str, bytes]) -> list[str]:
    """The modules that may look for sources of their package, without those that were reviewed."""
    return [
        path
        for path, text in sorted(texts.items())
        if _LISTS.search(text)
        and _OWN_PLACE.search(text)
        and not any(re.fullmatch(row.pattern, path) for row in REVIEWED)
    ]
