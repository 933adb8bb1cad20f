"""`make upstream`: the verdicts of a test file, the sample of a seed, and what counts as a difference."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from upstream import sources
from upstream.__main__ import HEAD, AreaResult, differing, document, files_of
from upstream.areas import AREAS, LEFT_OUT, Area
from upstream.running import Selection, run_files

TESTS = """
import os, unittest
import pytest

class Kinds(unittest.TestCase):
    def test_a_passes(self): pass
    def test_b_fails(self): raise ValueError("wrong")
    def test_c_ends_the_process(self): os._exit(3)
    @unittest.skip("not here")
    def test_d_is_skipped(self): pass
    @unittest.expectedFailure
    def test_e_fails_as_expected(self): raise ValueError
    def test_f_comes_after(self): pass
    def test_g_takes_long(self):
        import time
        time.sleep(60)
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A folder with a test file that needs no torch."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_kinds.py").write_text(TESTS)
    return folder


def test_every_kind_of_end_is_a_verdict(tests: Path, tmp_path: Path) -> None:
    """A test that ends the process is named, and those behind it run all the same; one that takes too long fails."""
    found = run_files(tmp_path, tests, ["test_kinds.py"], Selection(None, 1, seconds=5), tmp_path / "work")
    verdicts = {name.rpartition("::test_")[2][0]: verdict for name, verdict in found.of.items()}
    assert verdicts == {
        "a": "passed",
        "b": "failed: ValueError",
        "c": "ended the process",
        "d": "skipped",
        "e": "expected failure",
        "f": "passed",
        "g": "failed: Failed",
    }


def test_a_seed_picks_the_same_tests_again(tests: Path, tmp_path: Path) -> None:
    """Two runs with one seed run the same tests of a file, as many as asked for; names run these and no others."""
    (tests / "test_kinds.py").write_text("\n".join(f"def test_{number}(): pass" for number in range(30)))
    runs = [
        run_files(tmp_path, tests, ["test_kinds.py"], Selection(5, seed), tmp_path / f"work{number}").of
        for number, seed in enumerate([1, 1, 2])
    ]
    assert len(runs[0]) == 5
    assert runs[0] == runs[1]
    assert runs[0].keys() != runs[2].keys()
    only = Selection(None, 1, ("test_kinds.py::test_7",))
    assert run_files(tmp_path, tests, ["test_kinds.py"], only, tmp_path / "only").of == {
        "test_kinds.py::test_7": "passed"
    }


def test_a_file_that_cannot_be_imported_says_why(tests: Path, tmp_path: Path) -> None:
    """A file without verdicts carries the end of what pytest said."""
    (tests / "test_kinds.py").write_text("import nothing_of_this_name")
    found = run_files(tmp_path, tests, ["test_kinds.py"], Selection(None, 1), tmp_path / "work")
    assert found.of == {}
    assert "test_kinds.py" in found.said


def test_only_equal_verdicts_are_no_difference() -> None:
    """Another verdict, another error, and a test that one side lacks are differences."""
    stock = {"a": "passed", "b": "failed: ValueError", "c": "passed", "d": "skipped"}
    layer = {"a": "passed", "b": "failed: TypeError", "d": "skipped", "e": "passed"}
    assert differing(stock, layer) == {
        "b": ("failed: ValueError", "failed: TypeError"),
        "c": ("passed", "absent"),
        "e": ("absent", "passed"),
    }


def test_areas_find_their_files(tmp_path: Path) -> None:
    """Patterns give the files that there are, in order, without those that are left out; each of these rows has a reason."""
    for name in ("test_b.py", "fx/test_a.py", "fx/test_gradual_type.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    area = Area("any", ("test_b.py", "test_not_there.py", "fx/test_*.py"))
    assert files_of(area, tmp_path) == ["test_b.py", "fx/test_a.py"]
    assert all(row.reason for row in LEFT_OUT)
    assert len({area.name for area in AREAS}) == len(AREAS)


def test_the_page_gets_the_last_results(tmp_path: Path) -> None:
    """The rows of the table are replaced, and what is around it stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{HEAD}\n|---|\n| old |\n\nafter\n")
    result = AreaResult(
        "jit", "2.13.0", "2.6.0", "2026-01-02", files=1, verdicts={"passed": 5, "failed": 2, "skipped": 1}
    )
    document([result], page)
    text = page.read_text()
    assert text.startswith("before\n\n| area")
    assert text.endswith("| jit | 2.13.0, 2.6.0 | 2026-01-02 | 1 | 8 | 5 | 1 | 2 | 0 | 0 |\n\nafter\n")
    assert "old" not in text
    with pytest.raises(SystemExit, match="Next: make upstream"):
        document([], page)


@pytest.fixture
def package(tmp_path: Path) -> sources.SourcePackage:
    """An archive that a URL of this machine serves."""
    archive = tmp_path / "tests.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for name in ("torch-1/test/test_one.py", "torch-1/setup.py"):
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"pass\n"))
    return sources.SourcePackage("1.0", archive.as_uri(), "", "torch-1/test")


def test_sources_are_checked(package: sources.SourcePackage, tmp_path: Path) -> None:
    """Another archive than the one that Debian has is refused; the right one gives the folder of the tests, once."""
    with pytest.raises(sources.SourceError, match="has the SHA-256 ") as caught:
        sources.fetch(tmp_path / "build", package)
    right = package._replace(sha256=str(caught.value).split("SHA-256 ")[1][:64])
    folder = sources.fetch(tmp_path / "build", right)
    assert [path.name for path in folder.iterdir()] == ["test_one.py"]
    assert sources.fetch(tmp_path / "build", right._replace(url="http://not.used")) == folder
    with pytest.raises(sources.SourceError, match=r"cannot be downloaded(.|\n)*Next: --sources FOLDER"):
        sources.fetch(tmp_path / "other", right._replace(url=(tmp_path / "missing").as_uri()))


def test_the_archive_comes_from_the_mirror_of_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror is the one that apt uses, and not that of security updates; without one, the message has the way out."""
    apt = tmp_path / "apt-get"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    apt.write_text("#!/bin/sh\necho http://mirror.example/debian-security/\necho http://mirror.example/debian/\n")
    apt.chmod(0o755)
    assert sources.mirror() == "http://mirror.example/debian/"
    for script in ("#!/bin/sh\n", "#!/bin/sh\nexit 1\n"):
        apt.write_text(script)
        with pytest.raises(sources.SourceError, match="Next: --sources FOLDER"):
            sources.mirror()
