"""The names of the code: one name for one thing, and the words of docs/architecture.md for the things that matter."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lambda_torch.project import ROOT

FOLDERS = ("src", "tools", "layers/torch", "clients/python")
DOCUMENT = "docs/architecture.md"


def modules(folder: str) -> Iterator[Path]:
    """The modules below a folder, without what a build leaves there."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            yield path


def classes() -> dict[str, list[str]]:
    """Every class of the three folders, by name: the modules that define it."""
    found = defaultdict(list)
    for folder in FOLDERS:
        for path in modules(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(path.relative_to(ROOT).as_posix())
    return found


def section(title: str) -> str:
    """The text of a section of the document."""
    text = (ROOT / DOCUMENT).read_text()
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def words() -> dict[str, tuple[str, str]]:
    """The table of words: the word, its class and the module of the class."""
    rows = re.findall(r"^\| ([^|]+?) \|.*\| `(\w+)` in `([\w/.]+)` \|$", section("Words"), re.MULTILINE)
    return {word: (name, module) for word, name, module in rows}


def names_twice() -> set[str]:
    """The class names that the document allows twice."""
    return set(re.findall(r"^\| `(\w+)` \|", section("Class names that are used twice"), re.MULTILINE))


def test_a_class_name_is_used_once() -> None:
    """No class of these folders has the name of another, unless the document says why."""
    twice = {name: places for name, places in classes().items() if len(places) > 1}
    allowed = names_twice()
    assert {name: places for name, places in twice.items() if name not in allowed} == {}
    assert allowed <= twice.keys(), "the document lists a name that is not used twice"


def test_no_class_name_is_the_plural_of_another() -> None:
    """A reader does not have to look for a final s: `Report` and `Reports` are not both classes of one folder."""
    for folder in FOLDERS:
        names = {name for name, places in classes().items() for place in places if place.startswith(f"{folder}/")}
        pairs = {name for name in names if f"{name}s" in names}
        assert pairs == set(), folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_module_name_is_used_once(folder: str) -> None:
    """No two modules below one of these folders have the same name, except `__init__` and `__main__`.

    The modules in `lambda_torch/commands` and the user's `model` are not counted: their names are given by the
    commands, and by the user.
    """
    found = defaultdict(list)
    for path in modules(folder):
        if path.stem not in ("__init__", "__main__") and path.parent.name not in ("commands", "model"):
            found[path.stem].append(path.relative_to(ROOT).as_posix())
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert twice == {}


def test_each_word_names_a_class() -> None:
    """The table of words names about twenty words, and each class is in the module that the table names."""
    table = words()
    assert 20 <= len(table) <= 30
    defined = classes()
    wrong = {word: each for word, each in table.items() if each[1] not in defined.get(each[0], [])}
    assert wrong == {}


def test_the_words_are_in_order() -> None:
    """A reader finds a word by the alphabet."""
    assert all(one < other for one, other in pairwise(words()))
