"""Which files of a folder belong to a release."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from serving.releases import format
from serving.releases.format import FileEntry

# Files that a system or a tool leaves in folders. No release has them, and publishing tells that they were left out.
# name (as a pattern) -> what leaves it there
LEFT_OUT = {
    ".DS_Store": "macOS's Finder: how it shows the folder",
    "._*": "macOS: what another file system cannot keep of a file",
    "Thumbs.db": "Windows: small pictures of the files",
    "desktop.ini": "Windows: how it shows the folder",
    "__pycache__": "Python's bytecode",
    ".ipynb_checkpoints": "Jupyter's copies",
    ".git": "Git",
    ".gitattributes": "Git; models that were cloned from a hub have it",
    ".gitignore": "Git",
    ".cache": "a hub's downloads",
}

NAME_RULE = "names have letters of English, digits, '.', '_' and '-', and begin with a letter, a digit or '_'"


def describe(folder: Path) -> tuple[dict[str, FileEntry], tuple[str, ...]]:
    """The files of a release folder as a manifest lists them, and the names of those that were left out.

    Raises:
        ValueError: the folder is empty, or has something that no release can have. The message names it, the rule, and
            the next step.
    """
    files = format.describe(folder, lambda name: _leaver(name) is not None)
    return files, tuple(sorted(_left(folder)))


def check_names(folder: Path) -> None:
    """Check the names of all files of the folder.

    Raises:
        ValueError: a name that no release can have. The message has the rule, and a name that fits.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or _leaver(name) is not None or format.is_file_name(name):
            continue
        if name == format.MANIFEST_NAME:
            raise ValueError(
                f"{name} is written by publish itself. Next: remove it, or give your own file another name"
            )
        better = _better(name)
        rename = f" Next: rename it, such as to {better}, and read it by that name in Model.load" if better else ""
        raise ValueError(f"{name[:300]!r} is not a file name that a release may have: {NAME_RULE}.{rename}")


def _leaver(name: str) -> str | None:
    """What left the file there, if it is one of those that no release has."""
    parts = name.split("/")
    return next((why for pattern, why in LEFT_OUT.items() if any(fnmatchcase(part, pattern) for part in parts)), None)


def _left(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return [name for name in names if _leaver(name) is not None]


def _better(name: str) -> str | None:
    """A name that fits, made from one that does not. None if nothing is left of it."""
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "_", part).lstrip(".-") for part in name.split("/")]
    better = "/".join(parts)
    return better if format.is_file_name(better) else None
