"""The texts from which a project is made: the folder `files` beside this module.

A name there ends with `.txt`, which is left out, and `dot-` at its beginning becomes a dot. `@@NAME@@` in a text stands
for a value.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).with_name("files")
_VALUE = re.compile(r"@@([A-Z_]+)@@")


def text(kind: str, name: str, values: Mapping[str, str]) -> str:
    """One text with its values. Raises KeyError if it needs a value that is not given."""
    return _VALUE.sub(lambda match: values[match[1]], (_FOLDER / kind / name).read_text(encoding="utf-8"))


def texts(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """All texts of a kind, by their paths in the project, without those whose names have no second ending."""
    found = {}
    for path in sorted((_FOLDER / kind).rglob("*.txt")):
        parts = path.relative_to(_FOLDER / kind).with_suffix("").parts
        if parts[-1].startswith("Makefile-"):
            continue
        name = "/".join(part.replace("dot-", ".", 1) if part.startswith("dot-") else part for part in parts)
        found[name] = text(kind, path.relative_to(_FOLDER / kind).as_posix(), values)
    return found


def names(kind: str) -> list[str]:
    """The paths in the project of all texts of a kind."""
    return [path.relative_to(_FOLDER / kind).with_suffix("").as_posix() for path in (_FOLDER / kind).rglob("*.txt")]
