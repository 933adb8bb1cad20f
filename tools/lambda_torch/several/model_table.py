"""models.toml: the models of a stack with several, and what differs from one to the next.

    [models.names]
    MemorySize = 1769

    [models.flowers]
    code = "flowers"
    Timeout = 60

Beside code and release, a row has parameters of the template.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lambda_torch.errors import ProjectError
from serving.settings import MODEL_NAME

FILE_NAME = "models.toml"
HEAD = """\
# The models of this stack. Each has its own function at /models/NAME/, and its own part of the bucket. After a change:
# lambda-torch models. A row may set: code (a folder with a package `model`, instead of the code of the stack), release
# (the folder with its files), and parameters of the template, such as MemorySize, Timeout, LatencyAlarmMilliseconds.
"""
# "CodeDeployHook_STACK_NAME" has at most 64 characters, and the name of a stack needs room too.
LONGEST_NAME = 30


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        name: in paths, in keys of the bucket, and in names of resources.
        parameters: the values that differ from the template's defaults.
        code: the folder whose package `model` it uses; None for the code of the stack.
        release: the folder with its files. It need not exist.
    """

    name: str
    parameters: Mapping[str, str] = field(hash=False)
    code: str | None
    release: str

    @property
    def id_part(self) -> str:
        """What the logical ids of its resources begin with: `MyModel` for `my-model`."""
        return "".join(part.capitalize() for part in self.name.split("-"))


@dataclass(frozen=True)
class ModelTable:
    """The models, in the order of the file."""

    path: Path
    rows: tuple[ModelRow, ...]

    def row(self, name: str) -> ModelRow:
        """The row of a model.

        Raises:
            ProjectError: there is none. The message has the names that there are.
        """
        for each in self.rows:
            if each.name == name:
                return each
        raise ProjectError(unknown(name, [each.name for each in self.rows], str(self.path)))

    def folder(self, row: ModelRow) -> Path | None:
        """The folder whose package `model` a model uses; None for the code of the stack."""
        return None if row.code is None else self.path.parent / row.code

    def release(self, row: ModelRow) -> Path:
        """The folder with a model's files."""
        return self.path.parent / row.release


def unknown(name: str, known: Iterable[str], where: str) -> str:
    """The message for a name that no model has."""
    names = ", ".join(sorted(known))
    return f"There is no model {name!r} in {where}. " + (
        f"There are: {names}.\nNext: give one of these names." if names else "It has none yet."
    )


def find(folder: Path | None = None) -> ModelTable | None:
    """The table of a folder (default: the current one). None if it has no models.toml.

    Raises:
        ProjectError: the file cannot be used.
    """
    path = (Path.cwd() if folder is None else folder) / FILE_NAME
    return read(path) if path.is_file() else None


def read(path: Path) -> ModelTable:
    """Read a table.

    Raises:
        ProjectError: the file cannot be used. The message has the line, or the row and the key.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8: {error}\nNext: correct it.") from error


def parse(text: str, path: Path) -> ModelTable:
    """The table that a text is.

    Args:
        text: TOML.
        path: the file, for messages and for the folders that rows name.

    Raises:
        ProjectError: as `read`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path} is not TOML: {error}\nNext: correct that line.") from error
    listed = document.pop("models", {})
    if document or not isinstance(listed, dict) or not listed:
        raise ProjectError(
            f"{path} has no models, or something else than models.\nNext: write a line [models.NAME] for each model, or: "
            "lambda-torch models --add NAME"
        )
    rows = tuple(_row(path, name, entry) for name, entry in listed.items())
    parts: dict[str, str] = {}
    for row in rows:
        if (other := parts.setdefault(row.id_part, row.name)) != row.name:
            raise ProjectError(
                f"{path}: {other} and {row.name} would have resources of the same name, {row.id_part}...\n"
                "Next: give one of them another name."
            )
    return ModelTable(path, rows)


def add(folder: Path, names: Iterable[str]) -> ModelTable:
    """Add rows with the defaults to the table of a folder, which is made if there is none. Rows that exist stay.

    Raises:
        ProjectError: a name cannot be a model's name, or the file cannot be used. Nothing is written then.
    """
    path = folder / FILE_NAME
    table = find(folder)
    known = {row.name for row in table.rows} if table else set()
    new = [name for name in dict.fromkeys(names) if name not in known]
    for name in new:
        check_name(name, str(path))
    before = path.read_text(encoding="utf-8").rstrip("\n") + "\n" if table else HEAD
    text = before + "".join(f"\n[models.{name}]\n" for name in new)
    made = parse(text, path)
    path.write_text(text, encoding="utf-8")
    return made


def check_name(name: str, where: str) -> None:
    """Refuse what cannot be a model's name.

    Raises:
        ProjectError: it is none.
    """
    if not re.fullmatch(MODEL_NAME, name) or len(name) > LONGEST_NAME:
        raise ProjectError(
            f"{where}: {name!r} is not a model's name.\nNext: take 1 to {LONGEST_NAME} small letters, digits and single "
            "hyphens, with a letter first and no hyphen last, such as names or flowers-v2."
        )


def _row(path: Path, name: str, entry: Any) -> ModelRow:
    check_name(name, str(path))
    if not isinstance(entry, dict):
        raise ProjectError(f"{path}: {name} is not a table.\nNext: write [models.{name}] in a line.")
    values = dict(entry)
    code = values.pop("code", None)
    release = values.pop("release", f"{code}/release" if code else f"releases/{name}")
    for key, value in (("code", code), ("release", release)):
        if value is not None and not _is_folder_inside(value):
            raise ProjectError(
                f"{path}: {key} of {name} is {value!r}.\nNext: name a folder below {path.parent}, such as {name}."
            )
    for key, value in values.items():
        if isinstance(value, dict | list):
            raise ProjectError(f"{path}: {key} of {name} is no text and no number.\nNext: give one value.")
    return ModelRow(name, {key: _text(value) for key, value in values.items()}, code, release)


def _is_folder_inside(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not {"..", "/"} & set(PurePosixPath(value).parts)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
