"""The recording variant: which pages a workload touches, from however many processes it has."""

from pathlib import Path
from textwrap import dedent

import pytest

from builder.errors import BuildError
from builder.native.page_set import PageSet
from builder.native.split import LibraryPlan
from paging.kit import PLAIN, THROWING, USE_BOTH, Tree


@pytest.fixture(scope="module")
def recording(whole: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Both libraries, every splittable page of which is recorded when it is touched."""
    tree = whole.copy(tmp_path_factory.mktemp("recording") / "tree")
    tree.record()
    return tree


def _record(tree: Tree, program: str, path: Path) -> PageSet:
    done = tree.run(USE_BOTH + dedent(program), TORCH_LAYER_PAGER_RECORD=str(path))
    assert done.returncode == 0, done.stderr
    return PageSet.from_record(path)


def test_what_is_touched_is_recorded(recording: Tree, tmp_path: Path) -> None:
    """More calls record more pages, and a record is appended to."""
    path = tmp_path / "record.txt"
    few = _record(recording, "plain.call(3, 1)", path)
    both = _record(recording, "plain.call(150, 1)", path)
    every = _record(recording, "call_all(plain)", tmp_path / "all.txt")
    assert few.of(PLAIN) < both.of(PLAIN) < every.of(PLAIN)
    assert len(every.of(PLAIN)) > 100


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.execv('/bin/true', ['true'])"]
)
def test_children_are_recorded_however_they_end(recording: Tree, tmp_path: Path, end: str) -> None:
    """What a forked child touches is recorded, also if the child runs no exit handlers."""
    quiet = _record(recording, "", tmp_path / "quiet.txt")
    program = f"""
    if os.fork() == 0:
        plain.call(150, 1)
        {end}
    os.wait()
    """
    assert quiet.of(PLAIN) < _record(recording, program, tmp_path / "child.txt").of(PLAIN)


def test_a_replay_on_its_own_record_has_no_faults(whole: Tree, recording: Tree, tmp_path: Path) -> None:
    """A library that is split with a workload's record runs the same workload without a fault, exceptions included."""
    workload = "results = [plain.call(n, 1) for n in range(40)], throwing.attempt(1)\n"
    hot = _record(recording, workload, tmp_path / "record.txt")
    tree = whole.copy(tmp_path / "tree")
    tree.split({name: LibraryPlan(hot.of(name)) for name in (PLAIN, THROWING)})
    assert tree.result(USE_BOTH + workload + "print(json.dumps(pager.stats().faults))") == 0


def test_the_recording_tree_computes_what_it_did(recording: Tree, expected: list[int]) -> None:
    """Without a file to record to, a recording tree simply works."""
    assert recording.result(USE_BOTH + "print(json.dumps(call_all(plain)))") == expected


def test_a_record_needs_an_absolute_path(recording: Tree) -> None:
    """A relative path, which would mean another file in every process, is refused."""
    done = recording.run(USE_BOTH, TORCH_LAYER_PAGER_RECORD="record.txt")
    assert "is not an absolute path" in done.stderr
    assert done.returncode < 0


def test_a_record_that_is_none(tmp_path: Path) -> None:
    """A file that is not a record is refused with its name and the line."""
    path = tmp_path / "record.txt"
    path.write_text("libx.so\t1000\t1000\nnonsense\n")
    with pytest.raises(BuildError, match=r"record\.txt, line 2"):
        PageSet.from_record(path)
