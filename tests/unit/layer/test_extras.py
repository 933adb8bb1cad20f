"""Packages that a user adds to the layer: the large ones are packed, unless they look for their own sources."""

from pathlib import Path

import pytest

from builder import clean
from builder.account import forecast
from builder.errors import BuildError, VerifyError
from builder.memo import Memo
from builder.profile import extra
from builder.python import extras, kept_answers, source_changes
from builder.python.tiers import PACKED, RecordedModules
from builder.verify import same_answers
from layer_kit.packages import make_bundle

LARGE = "#" * extras.LEAST_SOURCE_BYTES
LISTING = "import os\nNAMES = sorted(os.listdir(os.path.dirname(__file__)))\n"


def made(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def chosen(root: Path) -> extras.ExtraPackages:
    """What becomes of the packages of a tree."""
    return extras.choose(root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))


def test_large_packages_are_packed_and_others_stay(tmp_path: Path) -> None:
    """A large package is packed; a small one, single modules and folders without `__init__` stay as they are."""
    made(
        tmp_path,
        {
            "large/__init__.py": LARGE,
            "small/__init__.py": "X = 1\n",
            "single.py": LARGE,
            "spaces/part.py": LARGE,
            "torch/__init__.py": LARGE,
        },
    )
    found = chosen(tmp_path)
    assert found.extra == ("large",)
    assert found.packed == PACKED | {"large"}
    assert not found.left


def test_a_package_that_lists_its_own_sources_stays_files_and_the_reason_is_named(tmp_path: Path) -> None:
    """A module with its own place and a listing keeps the package as files, but not if only the package's tests do so."""
    made(
        tmp_path,
        {
            "asks/__init__.py": LARGE,
            "asks/plugins.py": LISTING,
            "tested/__init__.py": LARGE,
            "tested/tests/test_it.py": LISTING,
        },
    )
    found = chosen(tmp_path)
    assert found.extra == ("tested",)
    assert [(left.name, "asks/plugins.py" in left.reason) for left in found.left] == [("asks", True)]


def test_a_package_whose_rules_do_not_fit_its_version_stays_files(tmp_path: Path) -> None:
    """Where a line that is to be changed is missing, nothing is guessed: the package is left as it is."""
    path = "transformers/utils/import_utils.py"
    made(tmp_path, {"transformers/__init__.py": LARGE, path: "def define_import_structure(path):\n    return {}\n"})
    found = chosen(tmp_path)
    assert not found.extra
    assert path in found.left[0].reason


def test_every_rule_has_a_reason() -> None:
    """Tables of exceptions say why each is one."""
    assert all(row.reason for row in extras.REVIEWED)
    assert all(row.reason for row in extras.KEPT_AS_FILES)
    assert all(row.reason for row in kept_answers.ANSWERS)


ANSWERING = (
    "import os\nASKED = []\n"
    "from functools import lru_cache\n"
    "@lru_cache\ndef exported(path, prefix=None):\n"
    "    ASKED.append(path)\n"
    "    return {frozenset({prefix}): set(os.listdir(path))}\n"
)


def test_what_a_package_learns_from_its_sources_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packed package gets the answer of the staged tree without a look at its files; other questions go to itself."""
    staged = made(
        tmp_path / "staged",
        {
            "asker/__init__.py": "",
            "asker/look.py": ANSWERING,
            "asker/parts/__init__.py": "",
            "asker/parts/one.py": "",
            "asker/data": "",
        },
    )
    change = source_changes.SourceChange(
        "asker/look.py",
        "@lru_cache\ndef exported(",
        "@__import__('torch_layer.answers').answers.cached\ndef exported(",
        "a test",
    )
    row = kept_answers.KeptAnswer("asker", "asker.look", "exported", "parts", (("prefix", "p"),), "a test")
    monkeypatch.setattr(source_changes, "CHANGES", (change,))
    monkeypatch.setattr(kept_answers, "ANSWERS", (row,))
    recorded = RecordedModules((), frozenset(), frozenset(), ("asker.look",))
    output = make_bundle(staged, tmp_path / "output", recorded, packed=frozenset({"asker"}))
    program = """
import os, sys, asker.look as a
parts = os.path.join(os.path.dirname(a.__file__), "parts")
print(a.exported(parts, prefix="p"), a.ASKED, a.exported(parts, prefix="p") is a.exported(parts, prefix="p"))
print(sorted(a.exported(sys.argv[1], prefix="p")[frozenset({"p"})]), len(a.ASKED), a.exported.__name__)
"""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    done = clean.run(output, "-c", program, str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    names = eval(first.partition(" []")[0], {"__builtins__": {"frozenset": frozenset}})
    assert {key: names[key] - {"__pycache__"} for key in names} == {frozenset({"p"}): {"__init__.py", "one.py"}}
    assert first.endswith("[] True")
    assert second == "['file'] 1 exported"


def test_the_order_of_answers_does_not_depend_on_the_file_system() -> None:
    """Dictionaries and sets are written in one order."""
    one = {"b": {"y", "x"}, "a": frozenset({"2", "1"})}
    other = {"a": frozenset({"1", "2"}), "b": {"x", "y"}}
    assert list(kept_answers._in_order(one).items()) == list(kept_answers._in_order(other).items())


def test_a_package_that_does_not_answer_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package and the way out."""
    staged = made(tmp_path, {"asker/__init__.py": "raise ImportError('nothing here')\n"})
    row = kept_answers.KeptAnswer("asker", "asker", "exported", "parts", (), "a test")
    monkeypatch.setattr(kept_answers, "ANSWERS", (row,))
    with pytest.raises(BuildError, match="nothing here") as caught:
        kept_answers.ask(staged, ["asker"], {"asker/__init__.py": b""})
    assert "KEPT_AS_FILES" in caught.value.next_step


def test_a_first_answer_with_extra_packages_is_recorded_and_compared(tmp_path: Path) -> None:
    """What importing them runs is noted in order, once; a package that cannot be imported must fail on both trees."""
    staged = made(
        tmp_path / "staged",
        {"good/__init__.py": "import good.part\n", "good/part.py": "", "bad/__init__.py": "raise ValueError\n"},
    )
    work = tmp_path / "work"
    work.mkdir()
    memo = Memo(tmp_path / "kept")
    use = extra.record(staged, ["good", "bad"], work, memo, "hash")
    assert use.modules == ("good", "good.part", "bad")
    assert use.answers == {"import good": "done", "import bad": "ValueError"}
    (staged / "good" / "part.py").write_text("raise TypeError\n")
    assert extra.record(staged, ["good", "bad"], work, memo, "hash") == use
    with pytest.raises(VerifyError, match="import good"):
        same_answers(use.answers, extra.run(staged, ["good", "bad"], work).answers)
    assert extra.record(staged, [], work, memo, "hash") == extra.ExtraUse((), {})
    assert not list(work.glob("extra-*"))


def test_a_packed_extra_package_is_forecast_as_one(tmp_path: Path) -> None:
    """A large package counts compressed, and a small one as a file with its bytecode."""
    made(tmp_path, {"large/__init__.py": LARGE * 4, "small/__init__.py": "#" * 1000})
    expected = dict(forecast.forecast(tmp_path, None).packages)
    assert expected["large"] < len(LARGE * 4) / 2
    assert expected["small"] > 2000
