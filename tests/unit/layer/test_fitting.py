"""The rules about modules that wait are held against the sources of a torch, row by row."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.python.deferred import eager, fitting, library_rules, rules
from builder.python.deferred import sources as source_trees
from builder.python.deferred.sources import SourceTree

SINCE_3 = rules.Versions(since=(3, 0))
TABLES = (
    "NEVER",
    "PLAIN",
    "SEPARABLE",
    "CLASSES_WITHOUT_INSTANCES",
    "EAGER_STATEMENTS",
    "COPIED_FUNCTIONS",
    "STUBBED_ANSWERS",
    "DEFERRED_STATEMENTS",
    "AT_FORK",
)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Empty tables; the test sets those that it is about."""
    for table in TABLES:
        monkeypatch.setattr(rules, table, ())
    monkeypatch.setattr(library_rules, "LIBRARY_CLASSES", ())
    return monkeypatch


def tree(folder: Path, version: str = "2.13.0", **modules: str) -> SourceTree:
    """Sources of a torch with these modules."""
    (folder / "torch").mkdir()
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}+cpu'\n")
    for name, text in modules.items():
        (folder / "torch" / f"{name}.py").write_text(text)
    return SourceTree(folder)


def problems(sources: SourceTree) -> list[str]:
    """What is said of the rows that do not fit."""
    return [row.problem for row in fitting.checked_rows(sources) if row.problem]


def test_an_eager_statement_is_taken_from_the_sources(tmp_path: Path, tables: pytest.MonkeyPatch) -> None:
    """A statement that stands in its module becomes a part of the text that runs when torch was imported."""
    tables.setattr(rules, "EAGER_STATEMENTS", (rules.EagerStatement("torch.a", ("x = 1",), "r"),))
    assert eager.eager_code(tree(tmp_path, a="x = 1\n")) == "import torch\n__name__ = 'torch.a'\nx = 1\n"


def test_a_class_that_libraries_ask_for_must_be_there(tmp_path: Path, tables: pytest.MonkeyPatch) -> None:
    """A class of the libraries' table that a new torch makes elsewhere is named."""
    row = rules.ClassWithoutInstances("torch.a", "C", "r", taken_from=("torch",))
    tables.setattr(library_rules, "LIBRARY_CLASSES", (row,))
    assert problems(tree(tmp_path, a="class D: 0")) == ["the module has no such class"]


@pytest.mark.parametrize(
    ("table", "row", "text", "said"),
    [
        ("EAGER_STATEMENTS", rules.EagerStatement("torch.a", ("x = 2",), "r"), "x = 1", "no line 'x = 2'"),
        ("EAGER_STATEMENTS", rules.EagerStatement("torch.gone", ("x = 2",), "r"), "x = 1", "no such module"),
        (
            "COPIED_FUNCTIONS",
            rules.CopiedFunction("torch.a", "f", (), "r"),
            "def g(): pass",
            "no such plain function f",
        ),
        ("COPIED_FUNCTIONS", rules.CopiedFunction("torch.a", "f", (), "r"), "def f(): y", "no such plain function f"),
        ("COPIED_FUNCTIONS", rules.CopiedFunction("torch.gone", "f", (), "r"), "", "no such module"),
        ("COPIED_FUNCTIONS", rules.CopiedFunction("torch.a", "f", (), "r", answer="1"), "f = 1", "no function f"),
        ("STUBBED_ANSWERS", rules.StubbedAnswer("torch.a", "f", "None", "r"), "f = 1", "no such function"),
        ("STUBBED_ANSWERS", rules.StubbedAnswer("torch.a", "f.g", "None", "r"), "def f(): pass", "no such function"),
        ("STUBBED_ANSWERS", rules.StubbedAnswer("torch.gone", "f", "None", "r"), "", "no such module"),
        ("CLASSES_WITHOUT_INSTANCES", rules.ClassWithoutInstances("torch.a", "C", "r"), "class D: 0", "no such class"),
        ("CLASSES_WITHOUT_INSTANCES", rules.ClassWithoutInstances("torch.gone", "C", "r"), "", "no such module"),
        (
            "CLASSES_WITHOUT_INSTANCES",
            rules.ClassWithoutInstances("torch.a", "C", "r"),
            "class M(type):\n    def __instancecheck__(self, x): return True\nclass C(metaclass=M): pass",
            "its metaclass M answers isinstance",
        ),
        (
            "DEFERRED_STATEMENTS",
            rules.DeferredStatement("torch.a", "import b", "r"),
            "import c",
            "has not one statement",
        ),
        (
            "DEFERRED_STATEMENTS",
            rules.DeferredStatement("torch.a", "import b", "r"),
            "import b\nb.c",
            "needs b at once",
        ),
        ("DEFERRED_STATEMENTS", rules.DeferredStatement("torch.gone", "import b", "r"), "", "no such module"),
        ("NEVER", rules.Pattern(r"torch\.(b|c)", "r"), "", "no module has such a name"),
        ("AT_FORK", rules.AtFork("asyncio.gone", "r"), "", "Python has no such module"),
    ],
)
def test_each_row_that_does_not_fit_is_told(
    tmp_path: Path, tables: pytest.MonkeyPatch, table: str, row: object, text: str, said: str
) -> None:
    """What a row is about is gone or has changed: the row is named with the reason, and a search does not begin."""
    tables.setattr(rules, table, (row,))
    sources = tree(tmp_path, a=text + "\n")
    (problem,) = problems(sources)
    assert said in problem
    with pytest.raises(BuildError, match=rf"(?s)1 rows of .*rules\.py do not fit this torch:.*{table}") as caught:
        fitting.require_fitting(sources)
    assert "--eager-imports" in caught.value.next_step


@pytest.mark.parametrize(
    ("version", "has"), [("2.13.1", False), ("2.99.0", False), ("3.0.0", True), ("3.1.0", True), ("10.2.0", True)]
)
def test_a_row_counts_for_its_versions_only(
    tmp_path: Path, tables: pytest.MonkeyPatch, version: str, has: bool
) -> None:
    """A row for other versions is not held against the sources, changes nothing, and is listed as skipped with its versions."""
    statement = rules.DeferredStatement("torch.a", "import b", "r", SINCE_3)
    tables.setattr(rules, "DEFERRED_STATEMENTS", (statement,))
    sources = tree(tmp_path, version, a="import b\n")
    assert source_trees.deferred_statements_of(sources, "torch.a") == (("import b",) if has else ())
    (row,) = fitting.checked_rows(sources)
    assert row.skipped == ("" if has else "for torch 3.0 and later")


def test_versions_read_as_people_say_them() -> None:
    """Ranges are told in words."""
    assert str(rules.EVERY) == "every version"
    assert str(rules.Versions(before=(2, 14))) == "before 2.14"
    assert str(rules.Versions((2, 13), (2, 14))) == "2.13 to before 2.14"


def test_a_copied_function_asks_for_no_class_of_its_module(tmp_path: Path, tables: pytest.MonkeyPatch) -> None:
    """In the copy nothing is an instance of a class whose module has not run, and annotations are left out."""
    tables.setattr(
        rules, "COPIED_FUNCTIONS", (rules.CopiedFunction("torch.a", "is_fake", ("from torch import Tensor",), "r"),)
    )
    tables.setattr(eager, "CLASSES", frozenset({("torch.a", "Fake")}))
    text = (
        "from torch import Size, Tensor\nclass Fake: pass\n"
        "def is_fake(x: object) -> Guard[Tensor]:\n    return isinstance(x, Fake) or isinstance(x, Tensor)\n"
    )
    code = eager.eager_code(tree(tmp_path, a=text))
    function = code[code.index("def is_fake") :]
    names: dict[str, object] = {"Tensor": int}
    exec(function, names)
    is_fake = names["is_fake"]
    assert callable(is_fake)
    assert (is_fake(1), is_fake("1")) == (True, False)
    assert "Fake)" not in function


def test_the_committed_rows_fit_the_torch_that_is_tested() -> None:
    """Every row for the installed torch fits its sources, and every row for other versions only is skipped."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    rows = fitting.checked_rows(SourceTree(Path(spec.origin).parents[1]))
    assert [row for row in rows if row.problem] == []
    assert sum(not row.skipped for row in rows) > 30


def test_every_row_has_its_own_version_or_is_for_all() -> None:
    """The rules that are committed have no row for no version, and say why."""
    for table in TABLES:
        for row in getattr(rules, table):
            versions = getattr(row, "versions", rules.EVERY)
            assert versions.before is None or versions.since < versions.before, row
            assert row.reason, row


@pytest.mark.parametrize(
    ("core", "version", "bad"),
    [
        ("for envkey in ['OPENBLAS_MAIN_FREE']:\n    pass\n", 'version = "9.9"\n', 0),
        ("import os\n", 'version = "9.9"\n', 1),
        ("import os\n", "version = find()\n", 2),
    ],
)
def test_the_rows_about_numpy_are_checked_one_by_one(tmp_path: Path, core: str, version: str, bad: int) -> None:
    """Each row about NumPy that does not fit is told, not the first only."""
    (tmp_path / "numpy" / "_core").mkdir(parents=True)
    for name, text in (("__init__", ""), ("version", version), ("_core/__init__", core)):
        (tmp_path / "numpy" / f"{name}.py").write_text(text)
    rows = fitting.checked_numpy_rows(SourceTree(tmp_path, ["numpy"]))
    assert sum(bool(row.problem) for row in rows) == bad
    assert all("there is no module" in row.problem for row in fitting.checked_numpy_rows(SourceTree(tmp_path, ["x"])))
