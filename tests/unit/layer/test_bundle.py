"""The Python half: a bundled tree behaves as the tree that it was made from."""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import clean, paths
from builder.account import ledger
from builder.python import archive_writer, bundle, tiers
from layer_kit.packages import FILES, PACKED, RECORDED, make_bundle, make_tree


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tree as pip leaves one."""
    return make_tree(tmp_path_factory.mktemp("staged") / "python")


@pytest.fixture(scope="session")
def bundled(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundled form, for reading only."""
    return make_bundle(staged, tmp_path_factory.mktemp("bundled") / "python")


def said(tree: Path, program: str) -> str:
    """What a program prints in a process that finds only this tree."""
    done = clean.run(tree, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("import lake; print(lake.depth(), lake.carp(), lake.__doc__)", "7 carp The lake."),
        ("import hill; print(hill.HEIGHT)", "800"),
        ("import hill.path; print(hill.path.up())", "1"),
        ("import lake.shore.stone as s; print(s.WEIGHT)", "3"),
        ("import single, lake; print(single.ALONE)", "True"),
        ("import stranger; print(stranger.NAMES)", "['__init__.py', '__pycache__', 'part.py']"),
        ("import lake, importlib; print(importlib.reload(lake) is lake)", "True"),
        ("import lake.deep.eel as e, pickle; print(pickle.loads(pickle.dumps(e.Eel)) is e.Eel)", "True"),
        ("import importlib.metadata; print(importlib.metadata.version('lake'))", "1.0"),
        # C code of torch imports `torch.onnx.__init__`: the package's file, as a module of its own.
        ("import lake.__init__ as i, lake; print(i is lake, i.depth(), i.__name__)", "False 7 lake.__init__"),
        ("import lake.deep.__init__ as i; print(i.__name__, hasattr(i, '__path__'))", "lake.deep.__init__ False"),
        ("import importlib.util as u; print(u.find_spec('lake.shore.__init__'))", "None"),
    ],
)
def test_modules_of_every_temperature_are_imported_as_from_files(bundled: Path, program: str, answer: str) -> None:
    """Hot, warm and cold modules, namespace packages, single modules and packages left as files can be imported."""
    assert said(bundled, program) == answer


def test_sources_are_what_they_were(bundled: Path) -> None:
    """`inspect` gives the text of packages and functions, though neither the stub nor any file has it."""
    program = (
        "import inspect, lake, hill.path; print(inspect.getsource(lake), inspect.getsource(hill.path.up), sep='|')"
    )
    assert said(bundled, program) == f"{FILES['lake/__init__.py']}|{FILES['hill/path.py']}".strip()
    assert not list((bundled / "lake").glob("*.py"))


def test_a_traceback_shows_the_lines_of_packed_modules(bundled: Path) -> None:
    """The `traceback` module, which the runtime client and loggers use, names a packed module's file and shows the line."""
    program = (
        "import traceback, lake.deep.eel as e\ntry: e.Eel().move()\nexcept RuntimeError: print(traceback.format_exc())"
    )
    line = f'File "{bundled}/lake/deep/eel.py", line 3, in move\n    raise RuntimeError("slippery")'
    assert line in said(bundled, program)


def test_walking_packages_finds_all_of_them(bundled: Path, staged: Path) -> None:
    """`pkgutil` lists the same modules, packages or not, in the bundled tree and in the staged one."""
    program = (
        "import pkgutil, sys, lake; print(sorted((m.name, m.ispkg) for m in pkgutil.walk_packages([sys.path[0]]) "
        "if not m.name.startswith(('builder', 'torch_layer'))))"
    )
    program = program.replace("sys.path[0]", "next(p for p in sys.path if p.endswith('python'))")
    assert said(bundled, program) == said(staged, program)


def test_a_package_runs_as_a_program(bundled: Path) -> None:
    """`python -m` finds `__main__` in the archive."""
    assert clean.run(bundled, "-m", "lake").stdout == "ran __main__\n"


def test_data_files_and_sources_come_from_the_loader(bundled: Path) -> None:
    """`pkgutil.get_data` and `importlib.resources` read data files, and `get_data` reads packed sources, too."""
    program = (
        "import pkgutil, lake.deep, importlib.resources as r; print(pkgutil.get_data('lake.deep', 'data.txt'), "
        "r.files('lake.deep').joinpath('data.txt').read_text(), pkgutil.get_data('lake.deep', 'eel.py')[:9])"
    )
    assert said(bundled, program) == "b'weed\\n' weed\n b'class Eel'"


def test_resources_are_stocks(bundled: Path, staged: Path) -> None:
    """`importlib.resources` lists and reads packed sources, files and folders of a package as it does where all are files."""
    program = """
import importlib.resources as r, lake, lake.deep
def walk(folder):
    for each in folder.iterdir():
        if each.name != "__pycache__":
            yield each.name, each.is_file(), each.is_dir(), each.read_bytes() if each.is_file() else None
            if each.is_dir():
                yield from walk(each)
top = r.files("lake")
print(sorted(walk(top), key=repr))
print((top / "fish.py").read_text(), top.joinpath("deep", "eel.py").read_bytes(), top.joinpath("deep/data.txt").read_text())
print([top.joinpath(name).is_file() for name in ("nothing.py", "deep", "fish.py")], (top / "fish.py").open().readline())
print((top / "deep" / "eel.py").open("rb").read(5), str(r.files(lake.deep) / "eel.py").rpartition("/python/")[2])
with r.as_file(top / "fish.py") as path:
    print(path.read_text())
"""
    assert said(bundled, program) == said(staged, program)


def test_resources_cannot_be_written(bundled: Path) -> None:
    """To open a packed source for writing is an error that names it."""
    program = "import importlib.resources as r; (r.files('lake') / 'fish.py').open('w')"
    done = clean.run(bundled, "-c", f"import lake; {program}")
    assert f"OSError: {bundled}/lake/fish.py can be read only" in done.stderr


def test_a_distribution_lists_its_files(bundled: Path) -> None:
    """`importlib.metadata` knows the files of a distribution that the layer has, and what each package is part of."""
    program = (
        "import importlib.metadata as m; d = m.distribution('lake'); print([str(f) for f in m.files('lake')], "
        "m.packages_distributions()['lake'], {f.hash for f in m.files('lake')})"
    )
    files = ["lake/__init__.py", "lake/deep/data.txt", "lake-1.0.dist-info/METADATA", "lake-1.0.dist-info/RECORD"]
    # From Python 3.12 on, files that are not on disk are left out.
    listed = [each for each in files if sys.version_info < (3, 12) or (bundled / each).exists()]
    assert said(bundled, program) == f"{listed} ['lake'] {{None}}"


def test_a_missing_module_is_reported_as_usual(bundled: Path) -> None:
    """A module that is nowhere raises ModuleNotFoundError with its name, and so does one inside a packed package."""
    program = (
        "import lake\nfor name in ('nowhere', 'lake.nowhere'):\n"
        "    try: __import__(name)\n    except ModuleNotFoundError as e: print(e.name)"
    )
    assert said(bundled, program).split() == ["nowhere", "lake.nowhere"]


def test_what_another_python_wrote_fails_only_when_it_is_imported(bundled: Path) -> None:
    """A source that this Python cannot compile is in the layer, and raises SyntaxError when it is imported, as in stock."""
    done = clean.run(bundled, "-c", "import lake; import lake.later")
    assert "SyntaxError" in done.stderr
    assert "match = 1 if (" in done.stderr


def test_files_that_appear_later_are_found(bundled: Path, tmp_path: Path) -> None:
    """A module that somebody adds to a packed package's folder is imported from its file."""
    tree = tmp_path / "python"
    shutil.copytree(bundled, tree)
    (tree / "lake" / "new.py").write_text("NEW = 1\n")
    assert said(tree, "import lake.new; print(lake.new.NEW)") == "1"


def test_a_listed_source_stays_a_file(staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that names sources which a program lists keeps them as files, and they are imported all the same."""
    monkeypatch.setattr(tiers, "STAYING", (tiers.StayingFile(r"lake/listed/[^/]+\.py", "listed in the test"),))
    tree = make_bundle(staged, tmp_path / "python")
    program = "import os, lake.listed.one as o; print(o.ONE, sorted(os.listdir(os.path.dirname(o.__file__))))"
    assert said(tree, program) == "1 ['__init__.py', 'one.py']"


def test_threads_import_cold_modules_at_once(bundled: Path) -> None:
    """Eight threads that import packed modules at the same time all get them."""
    program = (
        "import threading, importlib, lake\nfound = []\n"
        "names = ['lake.deep.eel', 'hill.path', 'lake.shore.stone', 'lake.listed.one'] * 2\n"
        "ts = [threading.Thread(target=lambda n=n: found.append(importlib.import_module(n).__name__)) for n in names]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; print(len(found))"
    )
    assert said(bundled, program) == "8"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "it is too short"),
        (lambda path: path.write_bytes(b"PK" + path.read_bytes()[2:]), "it is not an archive of this layer"),
        (lambda path: _flip(path, archive_writer.HEADER_BYTES + 9), "the checksum of block 0 does not fit"),
        (lambda path: _flip(path, -3), "the checksum of its index does not fit"),
    ],
)  # fmt: skip
def test_a_damaged_archive_is_named(bundled: Path, tmp_path: Path, damage: object, message: str) -> None:
    """A missing, cut or changed archive gives an ImportError with the file, the reason and the next step."""
    tree = tmp_path / "python"
    shutil.copytree(bundled, tree)
    assert callable(damage)
    damage(tree / "torch_layer" / "modules.cold")
    done = clean.run(tree, "-c", "import lake; lake.__loader__.get_source('lake')")
    assert done.returncode == 1
    assert f"{tree}/torch_layer/modules.cold cannot be used: " in done.stderr
    assert message in done.stderr
    assert "Next: build the layer again" in done.stderr


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "value", "says", "next_step"),
    [
        ("magic", b"\0\0\r\n", "was built for another Python than this", "CompatibleRuntimes"),
        (
            "machine",
            "riscv64",
            f"was built for riscv64 processors, and this one is {platform.machine()}",
            "Architecture",
        ),
    ],
)
def test_another_python_or_processor_is_told_so(
    bundled: Path, tmp_path: Path, name: str, value: object, says: str, next_step: str
) -> None:
    """A layer of another Python or for other processors is refused at the first import, with both and the next step."""
    tree = tmp_path / "python"
    shutil.copytree(bundled, tree)
    file = tree / "torch_layer" / "modules.cold"
    archive_writer.write(file, {**archive_writer.read_index(file).head, name: value}, [])
    done = clean.run(tree, "-c", "import lake")
    assert says in done.stderr
    assert next_step in done.stderr.partition("Next: ")[2]


def test_the_same_tree_gives_the_same_bytes(staged: Path, bundled: Path, tmp_path: Path) -> None:
    """Bundling twice, from folders with different dates, gives equal trees, file by file."""
    copy = tmp_path / "staged"
    shutil.copytree(staged, copy, copy_function=shutil.copyfile)
    again = make_bundle(copy, tmp_path / "python")
    assert ledger.tree_sha256(again) == ledger.tree_sha256(bundled)


def test_bundling_changes_nothing_in_the_staged_tree(staged: Path, tmp_path: Path) -> None:
    """The staged tree is the same before and after."""
    before = ledger.tree_sha256(staged)
    bundle.bundle(staged, tmp_path / "python", RECORDED, packed=PACKED)
    assert ledger.tree_sha256(staged) == before


def test_starting_the_finder_imports_nothing_that_torch_does_not(bundled: Path) -> None:
    """What the finder needs is imported by `import torch` in any case, so it costs a cold start nothing."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    program = "import sys; before = set(sys.modules); import {}; print(*sorted(set(sys.modules) - before))"
    torch = set(said(Path(spec.origin).parents[1], program.format("torch")).split())
    finder = {
        name for name in said(bundled, program.format("lake")).split() if not name.startswith(("lake", "torch_layer"))
    }
    assert finder - torch == set()


NAMES = st.sampled_from(["lake", "lake.fish", "lake.deep", "lake.deep.eel", "hill", "hill.path", "gone", "stranger"])


@given(
    st.lists(NAMES, unique=True),
    st.frozensets(NAMES),
    st.frozensets(st.sampled_from(sorted(FILES))),
    st.frozensets(NAMES),
)
def test_every_module_has_one_tier(
    hot: list[str], warm: frozenset[str], read: frozenset[str], deferred: frozenset[str]
) -> None:
    """Whatever a profile names, each module of a packed package is in one tier, and no module of another package is in any."""
    found = tiers.classify(sorted(FILES), tiers.RecordedModules(tuple(hot), warm, read), deferred, PACKED)
    text_only = [path for path in found.read_as_text if path not in found.hot]
    assert sorted([*found.hot, *found.warm, *text_only, *found.cold]) == list(found.modules)
    assert [tiers.module_name(path) for path in found.hot] == [name for name in hot if name not in ("gone", "stranger")]
    assert found.deferred <= set(found.hot)
    assert {path.split("/")[0] for path in found.modules} == PACKED


def test_a_layer_without_added_packages_lacks_what_only_these_need(bundled: Path) -> None:
    """The run-time package is whole but for the modules that only packages of a user make it import."""
    sources = {path.name for path in paths.RUN_TIME.glob("*.py")}
    assert sources > bundle.FOR_LIBRARIES
    assert {path.name for path in (bundled / "torch_layer").glob("*.py")} == sources - bundle.FOR_LIBRARIES
