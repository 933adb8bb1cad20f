"""Results of slow steps are kept under a hash of what they were made from."""

import ast
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder import paths, verify
from builder.memo import NOTHING_KEPT, Memo
from builder.native import compile_pager, split
from builder.native.selection import libraries_of
from builder.python import archive_writer, bytecode
from layer_kit.libraries import compiled


def never() -> bytes:
    """Stands for the slow step that must not run."""
    raise AssertionError("made again")


def test_a_result_is_made_once(tmp_path: Path) -> None:
    """The second question with the same inputs is answered from the folder, also by another object."""
    assert Memo(tmp_path / "kept").result([b"a", b"b"], lambda: b"result") == b"result"
    assert Memo(tmp_path / "kept").result([b"a", b"b"], never) == b"result"


@pytest.mark.parametrize("other", [[b"ab"], [b"a", b"c"], [b"a"], [b"", b"a", b"b"], [b"b", b"a"]])
def test_other_inputs_have_results_of_their_own(tmp_path: Path, other: list[bytes]) -> None:
    """No other list of inputs gets the same answer, not even one of the same bytes cut otherwise."""
    memo = Memo(tmp_path)
    memo.result([b"a", b"b"], lambda: b"one")
    assert memo.result(other, lambda: b"two") == b"two"


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 40])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: bytes) -> None:
    """A file that was cut or changed is not used, and is replaced."""
    Memo(tmp_path).result([b"a"], lambda: b"result")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert Memo(tmp_path).result([b"a"], lambda: b"result") == b"result"
    assert Memo(tmp_path).result([b"a"], never) == b"result"


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The error passes, and the next question runs the step again."""
    with pytest.raises(AssertionError, match="made again"):
        Memo(tmp_path).result([b"a"], never)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_asked_for_is_forgotten(tmp_path: Path) -> None:
    """Results of earlier inputs go, those of this build stay."""
    Memo(tmp_path).result([b"old"], lambda: b"1")
    memo = Memo(tmp_path)
    memo.result([b"new"], lambda: b"2")
    memo.forget_others()
    assert len(list(tmp_path.iterdir())) == 1
    assert memo.result([b"new"], never) == b"2"


def test_another_builds_results_are_taken_and_left_as_they_are(tmp_path: Path) -> None:
    """A result of another folder is used and kept in the own one; the other folder stays as it is, and damage does not count."""
    other = tmp_path / "other"
    Memo(other).result([b"a"], lambda: b"result")
    Memo(other).result([b"b"], lambda: b"whole")
    damaged = next(path for path in other.iterdir() if path.read_bytes().endswith(b"whole"))
    damaged.write_bytes(b"short")
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    memo = Memo(tmp_path / "own", [tmp_path / "gone", other])
    assert memo.result([b"a"], never) == b"result"
    assert memo.result([b"b"], lambda: b"new") == b"new"
    memo.forget_others()
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    assert Memo(tmp_path / "own").result([b"a"], never) == b"result"


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    """Where results cannot be kept, the step runs each time."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        (tmp_path / "file").mkdir()
    NOTHING_KEPT.forget_others()
    assert NOTHING_KEPT.result([b"a"], lambda: b"1") == b"1"
    assert NOTHING_KEPT.result([b"a"], lambda: b"2") == b"2"


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    """Many threads with the same and with other questions get their own answers."""
    memo = Memo(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: memo.result([b"%d" % (n % 5)], lambda: b"%d" % (n % 5)), range(100)))
    assert found == [b"%d" % (n % 5) for n in range(100)]


def test_split_libraries_are_the_same_with_kept_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second split compresses nothing and writes the same side file and the same thin library."""
    body = "".join(f"int f{n}(int x) {{ return x * {n} + g({n}); }}\n" for n in range(4000))
    library = compiled(tmp_path, f"int g(int x) {{ return x; }}\n{body}")

    def once(name: str) -> tuple[bytes, bytes]:
        tree = tmp_path / name
        (tree / "torch_layer").mkdir(parents=True)
        (tree / "a.so").write_bytes(library + bytes(400_000))
        compile_pager.build_pager(tree / "torch_layer" / compile_pager.PAGER_NAME, arch=platform.machine())
        plans = dict.fromkeys(libraries_of(tree), split.LibraryPlan())
        side = tree / "torch_layer" / "libraries.cold"
        split.thin(plans, tree, side, level=3, memo=Memo(tmp_path / "kept"))
        return side.read_bytes(), (tree / "a.so").read_bytes()

    first = once("one")
    monkeypatch.setattr(split, "_compress", lambda *_: never())
    assert once("two") == first
    assert len(first[0]) > 1000


def test_bytecode_and_archives_are_the_same_when_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second bundle starts no compiler and compresses nothing, and has the same bytes."""
    jobs = [bytecode.CompileJob(f"/opt/python/m{n}.py", b"x = %d\n" % n) for n in range(3)]

    def once(name: str) -> bytes:
        memo = Memo(tmp_path / "kept")
        codes = bytecode.compile_all(jobs, positions=False, memo=memo)
        blobs = [archive_writer.Blob(job.file, True, code or b"") for job, code in zip(jobs, codes, strict=True)]
        group = archive_writer.BlobGroup(blobs, [blob._replace(is_code=False) for blob in blobs])
        archive_writer.write(tmp_path / name, {}, [group], memo=memo)
        return (tmp_path / name).read_bytes()

    first = once("one")
    monkeypatch.setattr(bytecode, "_compile", lambda *_, **__: never())
    monkeypatch.setattr(archive_writer, "_compress", lambda *_: never())
    assert once("two") == first


def test_the_reference_depends_on_all_code_that_makes_it() -> None:
    """Each module of the builder that runs on the staged tree is among the files that a kept reference depends on."""
    inert = {"builder", "builder.paths", "builder.errors", "builder.python", "builder.python.deferred"}
    covered = [paths.BUILDER / name for name in verify.REFERENCE_CODE]
    waiting, seen = (
        [path for name in covered for path in ([name] if name.is_file() else sorted(name.rglob("*.py")))],
        set(),
    )
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        assert any(path == place or place in path.parents for place in covered), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("builder"):
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    module = name if _file(name) else str(node.module)
                    if module not in inert and (file := _file(module)):
                        waiting.append(file)
    assert len(seen) > 15


def _file(module: str) -> Path | None:
    place = paths.BUILDER.joinpath(*module.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None
