"""Lines of modules that are compiled otherwise than they stand in the source, because they open sources by path.

`inspect`, tracebacks and the archive's source have the original. A change keeps the number of lines. The bytecode of a module
that is changed is always kept, since compiling its source would give the original back.
"""

from collections.abc import Mapping
from typing import NamedTuple

from builder.errors import BuildError


class SourceChange(NamedTuple):
    """A line of a module, or several, and what is compiled in its place."""

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
    SourceChange(
        "transformers/utils/import_utils.py",
        "    spec = importlib.util.spec_from_file_location(name, location, submodule_search_locations=[path])",
        "    spec = importlib.util.spec_from_file_location("
        "name, location, loader=type(__loader__)(name, location), submodule_search_locations=[path])",
        "loads the package by its path once more: the layer's loader has it",
    ),
    SourceChange(
        "transformers/utils/import_utils.py",
        "@lru_cache\ndef define_import_structure(",
        "@__import__('torch_layer.answers').answers.cached\ndef define_import_structure(",
        "reads the source of every model to learn what it exports: the builder has kept the answers",
    ),
)

MODULES = frozenset(change.path.removesuffix(".py").replace("/", ".") for change in CHANGES)
"""Names of the modules that are changed."""


def unfit(texts: Mapping[str, bytes]) -> str:
    """The path of a source among these that a change does not fit; empty if there is none."""
    return next(
        (
            change.path
            for change in CHANGES
            if change.path in texts and texts[change.path].count(change.line.encode()) != 1
        ),
        "",
    )


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
