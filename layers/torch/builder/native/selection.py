"""Which libraries are split into hot and cold pages: all that are larger than a threshold, but for those of a rule."""

import re
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from builder.stage.needs import elf_files

# Each split library costs about 20 kB: a companion, program headers, and its share of the index.
THRESHOLD_BYTES = 400_000


class Whole(NamedTuple):
    """Libraries that are not split, whatever their size."""

    pattern: str
    reason: str


WHOLE: tuple[Whole, ...] = (
    Whole(r"torch_layer/", "the pager itself"),
    Whole(r"torch/lib/libc10\.so$", "small, and nearly all of it is needed by every import"),
)


def libraries_of(tree: Path, left_whole: Container[str] = ()) -> list[str]:
    """Paths, relative to the tree, of the libraries that are split.

    Args:
        tree: A folder of packages.
        left_whole: Paths of libraries that are not split either, because nobody knows which of their pages are hot.
    """
    names = []
    for path in elf_files(tree):
        name = path.relative_to(tree).as_posix()
        whole = name in left_whole or any(re.match(rule.pattern, name) for rule in WHOLE)
        if not whole and re.search(r"\.so(\.|$)", path.name) and path.stat().st_size >= THRESHOLD_BYTES:
            names.append(name)
    return names
