"""Lines of modules that are compiled otherwise than they stand in the source, because they open sources by path.

`inspect`, tracebacks and the archive's source have the original. A change keeps the number of lines. The bytecode of a module
that is changed is always kept, since compiling its source would give the original back.
"""

from collections.abc import Mapping
from typing import NamedTuple

from builder.errors import BuildError


class SourceChange(NamedTuple):
    """A line of a module and what is compiled in its place."""

    path: str  # of the source, below the layer's root
    line: str
    compiled: str
    reason: str


CHANGES = (
    SourceChange(
        "torch/_inductor/codecache.py",
        'with open(module, "rb") as f:',
        'with __import__("io").BytesIO(spec.loader.get_data(module)) as f:',
        "torch_key hashes the sources of all of torch: their loaders have them, and most are no files",
    ),
)

MODULES = frozenset(change.path.removesuffix(".py").replace("/", ".") for change in CHANGES)
"""Names of the modules that are changed."""


def applied(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The sources by path, with the changes in them.

    Raises:
        BuildError: A line is not in its source exactly once.
    """
    changed = dict(texts)
    for change in CHANGES:
        if change.path not in texts:
            continue
        if changed[change.path].count(change.line.encode()) != 1:
            raise BuildError(
                f"{change.path} does not have the line {change.line!r} exactly once (builder/python/source_changes.py)",
                "write another rule for this version of torch, or remove the rule if torch reads its sources by their loaders",
            )
        changed[change.path] = changed[change.path].replace(change.line.encode(), change.compiled.encode())
    return changed
