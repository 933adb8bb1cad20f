"""Two trees have the same torch where every attribute of every module is the same."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import attributes
from builder.errors import BuildError


class Marker:
    """A class to describe."""

    def method(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "int 1"),
        (True, "bool True"),
        ("/a/tree/torch/x.py", "str 'TREE/torch/x.py'"),
        ((1, "b", None), "tuple (1, 'b', None)"),
        (frozenset(["b", "a"]), "frozenset ['a', 'b']"),
        (0x7F85_5310_40A0, "int, an address"),
        (2**63 - 1, "int 9223372036854775807"),
        (json, "module json"),
        (Path, "class pathlib.Path"),
        (json.dumps, "builtins.function json.dumps"),
        (math.sin, "builtins.builtin_function_or_method math.sin"),
        ([1], "builtins.list"),
        (Marker(), f"{__name__}.Marker"),
        (Marker().method, f"builtins.method {__name__}.Marker.method"),
    ],
)
def test_an_attribute_is_described_by_what_lasts(value: object, text: str) -> None:
    """Functions and classes have their names, plain data its value without the tree's path, and other objects their class."""
    assert attributes.describe(value, "/a/tree") == text


TREE = {
    "torch/__init__.py": "import torch.one\nfrom torch.one import one\nx = 1\n",
    "torch/one.py": "def one(): pass\n",
}
OTHER_TREE: list[tuple[str, Callable[[str], str], str]] = [
    (
        "torch/__init__.py",
        lambda text: text.replace("from torch.one import one\n", ""),
        "torch.one is module torch.one",
    ),
    ("torch/__init__.py", lambda text: text.replace("x = 1", "x = 2"), "torch.x is int 2, and in stock torch int 1"),
    ("torch/__init__.py", lambda text: text.replace("x = 1", "import torch.two"), "torch.two: the module is new"),
    ("torch/one.py", lambda text: text + "one.__module__ = 'layer'\n", "torch.one is builtins.function layer.one"),
]


def make(folder: Path, files: dict[str, str]) -> Path:
    """A tree with a small torch and NumPy."""
    for name, text in (files | {"torch/two.py": "", "numpy/__init__.py": ""}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_equal_trees_have_no_differences(tmp_path: Path) -> None:
    """A tree elsewhere with the same torch is the same."""
    found = attributes.compare(make(tmp_path / "stock", TREE), make(tmp_path / "layer", TREE))
    assert found.differences == []
    assert found.modules == 3


@pytest.mark.parametrize(("name", "change", "message"), OTHER_TREE)
def test_a_difference_is_named(tmp_path: Path, name: str, change: Callable[[str], str], message: str) -> None:
    """An attribute that is another thing, has another value or another name, and a module too many, are each a line."""
    layer = make(tmp_path / "layer", TREE | {name: change(TREE[name])})
    found = attributes.compare(make(tmp_path / "stock", TREE), layer)
    assert any(line.startswith(message) for line in found.differences), found.differences


def test_a_tree_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    """An error of the import reaches the user with its traceback."""
    layer = make(tmp_path / "layer", TREE | {"torch/one.py": "import nothing_of_this_name\n"})
    with pytest.raises(BuildError, match="nothing_of_this_name"):
        attributes.compare(make(tmp_path / "stock", TREE), layer)


def test_what_a_touch_gives_is_compared() -> None:
    """On a layer with held modules an attribute, a name that waits and a touched name are compared with stock."""
    stock = {"modules": {"torch": {"a": "int 1", "b": "int 2", "c": "int 3"}}}
    good = {"modules": {"torch": {"a": "int 1"}}, "waiting": {"torch": ["b", "c"]}, "touched": {"torch.b": "int 2"}}
    assert attributes.differences_while_held(stock, good) == []
    bad: dict[str, Any] = {
        "modules": {"torch": {"a": "int 9"}},  # and no c
        "waiting": {"torch": ["b", "d"]},
        "touched": {"torch.b": "module torch.b"},
    }
    assert attributes.differences_while_held(stock, bad) == [
        "torch.a is int 9 while modules are held, and in stock torch int 1",
        "torch.b is module torch.b when it is touched, and in stock torch int 2",
        "torch.c is nothing while modules are held, and in stock torch int 3",
        "torch.d waits, and stock torch has no such name",
    ]
