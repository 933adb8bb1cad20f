"""Names that the layer's C code and its Python code share stand in one place in each language, and are the same."""

import ast
import re
from pathlib import Path

import pytest

import torch_layer
from builder import paths

C_FILES = sorted([*paths.PAGER.glob("*.c"), *paths.PAGER.glob("*.h")])
PYTHON_FILES = sorted([*paths.BUILDER.rglob("*.py"), *paths.RUN_TIME.rglob("*.py")])
SHARED_WITH_C = (
    torch_layer.PAGER_LIBRARY,
    torch_layer.COMPANION_LIBRARY,
    torch_layer.SIDE_FILE,
    torch_layer.NOTE_NAME.decode(),
    torch_layer.SIDE_FILE_MAGIC.decode(),
)
SHARED_IN_PYTHON = (
    *SHARED_WITH_C,
    torch_layer.ARCHIVE_FILE,
    torch_layer.ARCHIVE_MAGIC.decode(),
)


def literals(path: Path) -> list[str]:
    """The texts of a source file, without comments."""
    if path.suffix == ".py":
        constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        return [each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in constants]
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return [each.replace(r"\r\n", "\r\n") for each in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)]


def places(files: list[Path], name: str) -> list[str]:
    """The files with a text that is the name, or a path that ends with it."""
    return [
        path.relative_to(paths.LAYER).as_posix()
        for path in files
        for each in literals(path)
        if each.removeprefix("/") == name
    ]


@pytest.mark.parametrize("name", SHARED_WITH_C)
def test_c_code_has_the_name_once(name: str) -> None:
    """A file name, note name or magic that Python knows stands in the C code just once."""
    assert len(places(C_FILES, name)) == 1


@pytest.mark.parametrize("name", SHARED_IN_PYTHON)
def test_python_code_has_the_name_once(name: str) -> None:
    """Such a name stands in `torch_layer/__init__.py`, and in no other module of the layer."""
    assert places(PYTHON_FILES, name) == ["torch_layer/__init__.py"]
