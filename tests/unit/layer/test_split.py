"""Splitting: what is cut where, what the report says, and what is refused before anything changes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from builder.errors import BuildError, ElfError
from builder.native.elf import Protection, SharedLibrary, Tag
from builder.native.layout import COLD_RULES, PageState, plan_layout
from builder.native.page_set import PAGE_BYTES
from builder.native.side_file import read_index
from builder.native.split import LibraryPlan, SplitReport, thin
from paging.kit import LAYOUTS, PLAIN, THROWING, Tree, compile_library, plain_source, unsplit

NAMES = 2000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Both libraries as compiled."""
    return unsplit(tmp_path_factory.mktemp("whole") / "tree")


@pytest.fixture(scope="module")
def split(whole: Tree, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, SplitReport]:
    """Both libraries split, with every fifth page of one hot, and the report."""
    tree = whole.copy(tmp_path_factory.mktemp("split") / "tree")
    tree.add_pager()
    hot = frozenset(range(0, 400, 5))
    report = thin({PLAIN: LibraryPlan(hot), THROWING: LibraryPlan()}, tree.root, tree.side_file, 16384, 3)
    return tree, report


@pytest.mark.parametrize("name", [PLAIN, THROWING])
@pytest.mark.parametrize("min_cold_pages", [1, 3])
def test_a_layout_covers_every_segment(whole: Tree, name: str, min_cold_pages: int) -> None:
    """The runs of a segment follow each other without gap or overlap; cold ones are whole pages, long enough, not kept."""
    library, hot = SharedLibrary.read(whole.root / name), frozenset({4, 9})
    layout = plan_layout(library, hot, min_cold_pages)
    for segment, runs in layout.runs:
        assert [run.start for run in runs] == [segment.address, *(run.end for run in runs[:-1])]
        assert runs[-1].end == segment.end
    cold = [run for _, run in layout.cold()]
    assert cold
    for run in cold:
        assert run.start % PAGE_BYTES == run.end % PAGE_BYTES == 0
        assert run.end - run.start >= min_cold_pages * PAGE_BYTES
        assert not {page for page in hot if run.start <= page * PAGE_BYTES < run.end}


@pytest.mark.parametrize("name", [PLAIN, THROWING])
def test_only_sections_of_the_rules_go_cold(whole: Tree, name: str) -> None:
    """No cold page holds a byte of a section that is not in the rules; nothing writable goes cold."""
    library = SharedLibrary.read(whole.root / name)
    allowed = {rule.name for rule in COLD_RULES}
    for segment, run in plan_layout(library, frozenset(), 1).cold():
        assert not segment.flags & Protection.WRITE
        inside = {s.name for s in library.sections if s.address < run.end and s.end > run.start}
        assert inside <= allowed


@pytest.mark.parametrize("name", [PLAIN, THROWING])
def test_hot_bytes_are_unchanged(whole: Tree, split: tuple[Tree, SplitReport], name: str) -> None:
    """At every address that the thin file has, it has the original's bytes; what it has not is cold, or the old strings."""
    original, tree = SharedLibrary.read(whole.root / name), split[0]
    result = SharedLibrary.read(tree.root / name)
    (part,) = (part for part in read_index(tree.side_file) if part.name == name)
    cold = [fragment for block in part.blocks for fragment in block.fragments]
    covered = 0
    for load in result.loads[:-2]:  # the last two are the new tables
        content = bytearray(result.at(load.address, load.file_bytes))
        if load.address == 0:
            content[32:64] = original.data[32:64]  # the ELF header points to the new program headers
        assert bytes(content) == original.at(load.address, load.file_bytes)
        covered += load.file_bytes
    missing = sum(load.file_bytes for load in original.loads) - covered
    dropped = sum(
        run.end - run.start
        for _, runs in plan_layout(original, frozenset(), 1).runs
        for run in runs
        if run.state is PageState.DEAD
    )
    assert missing == sum(fragment.bytes for fragment in cold) + dropped


def needed(library: SharedLibrary) -> list[str]:
    """The DT_NEEDED names, in order."""
    return [library.string(value) for tag, value in library.dynamic if tag == Tag.NEEDED]


def test_what_the_loader_needs(whole: Tree, split: tuple[Tree, SplitReport]) -> None:
    """A split library keeps its needs, symbols and name, and gets the companion, a path to it, and NODELETE."""
    for number, name in enumerate(sorted([PLAIN, THROWING])):
        before, after = SharedLibrary.read(whole.root / name), SharedLibrary.read(split[0].root / name)
        assert needed(after) == [f"libtorch_layer_companion_{number}.so", *needed(before)]
        runpath, flags = after.tag(Tag.RUNPATH), after.tag(Tag.FLAGS_1)
        assert runpath is not None
        assert after.string(runpath) == "$ORIGIN/../../torch_layer"
        assert flags is not None
        assert flags & 8
        assert after.tag(Tag.SYMTAB) == before.tag(Tag.SYMTAB)
        with (split[0].root / name).open("rb") as file:
            segment = next(s for s in ELFFile(file).iter_segments() if isinstance(s, DynamicSegment))
            tags = [tag for tag in segment.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
            assert [tag.needed for tag in tags] == needed(after)  # type: ignore[attr-defined]


def test_the_report_adds_up(whole: Tree, split: tuple[Tree, SplitReport]) -> None:
    """The report's sizes are those of the files, and a section's hot and cold bytes are its bytes."""
    tree, report = split
    assert report.side_file == tree.side_file.stat().st_size
    assert [library.name for library in report.libraries] == sorted([PLAIN, THROWING])
    for library in report.libraries:
        assert library.original == (whole.root / library.name).stat().st_size
        assert library.thin == (tree.root / library.name).stat().st_size
        assert library.thin < library.original
        for section in library.sections:
            if section.name != ".bss":
                assert section.hot + section.cold == section.bytes, section
        compressed = sum(section.compressed for section in library.sections)
        assert abs(compressed - library.side) <= library.side * 0.02


def test_the_same_input_gives_the_same_files(whole: Tree, split: tuple[Tree, SplitReport], tmp_path: Path) -> None:
    """Splitting twice gives the same bytes, so that a build can be repeated."""
    again = whole.copy(tmp_path / "again")
    again.add_pager()
    hot = frozenset(range(0, 400, 5))
    seen: list[int] = []
    thin(
        {THROWING: LibraryPlan(), PLAIN: LibraryPlan(hot)},
        again.root,
        again.side_file,
        16384,
        3,
        lambda _, done, total: seen.append(done * 100 // total),
    )
    for path in (PLAIN, THROWING, "torch_layer/libraries.cold"):
        assert (again.root / path).read_bytes() == (split[0].root / path).read_bytes()
    assert seen == sorted(seen)
    assert seen[-1] == 100


def test_a_library_that_is_all_hot_stays(whole: Tree, tmp_path: Path) -> None:
    """Where no page goes cold there is nothing to bring back, and the library is left as it was."""
    tree = whole.copy(tmp_path / "tree")
    tree.add_pager()
    plans = {PLAIN: LibraryPlan(frozenset(range(4096))), THROWING: LibraryPlan()}
    report = thin(plans, tree.root, tree.side_file, 16384, 3)
    assert (tree.root / PLAIN).read_bytes() == (whole.root / PLAIN).read_bytes()
    assert [part.name for part in read_index(tree.side_file)] == [THROWING]
    assert report.libraries[0].side == 0


@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_nothing_changes_when_one_library_is_bad(whole: Tree, tmp_path: Path, damage: str) -> None:
    """All libraries are read before the first is rewritten: a bad one leaves the tree as it was."""
    tree = whole.copy(tmp_path / "tree")
    tree.add_pager()
    victim = tree.root / THROWING
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(b"#!/bin/sh" * 30 if damage == "text" else victim.read_bytes()[:9000])
    before = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
    plans = {PLAIN: LibraryPlan(), THROWING: LibraryPlan()}
    with pytest.raises(ElfError, match=r"libthrowing\.so"):
        thin(plans, tree.root, tree.side_file, 16384, 3)
    assert {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()} == before


@pytest.fixture
def patched(tmp_path: Path) -> Tree:
    """A library with many names, of which patchelf has moved the tables twice."""
    if shutil.which("patchelf") is None:
        pytest.skip("needs patchelf")
    tree = Tree(tmp_path / "patched")
    names = "".join(f"int a_name_that_takes_room_in_the_table_of_names_{number};\n" for number in range(NAMES))
    library = compile_library(plain_source() + "\n" + names, tree.root / PLAIN, *LAYOUTS["four segments"])
    for length in (300, 600):
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/" + "0" * length, library], check=True)
    return tree


def test_what_patchelf_has_overwritten_is_dropped(patched: Tree, tmp_path: Path) -> None:
    """Filled pages that no section has are left out, of writable segments as well, and the library works as before."""
    before = SharedLibrary.read(patched.root / PLAIN)
    filled = [
        (segment, run)
        for segment, runs in plan_layout(before, frozenset(), 2).runs
        for run in runs
        if len(runs) > 1 and set(before.at(run.start, run.end - run.start)) in ({ord("X")}, {ord("Z")})
    ]
    assert {run.state for _, run in filled} == {PageState.DEAD}
    assert {bool(segment.flags & Protection.WRITE) for segment, _ in filled} == {True, False}
    assert sum(run.end - run.start for _, run in filled) > 2 * NAMES * 40
    for _, run in filled:
        # No section has a byte of it, and none ends so near that a vector load could reach it.
        assert not [each for each in before.sections if each.address < run.end and each.end + 64 > run.start]
    whole = patched.copy(tmp_path / "whole")
    whole.add_pager()
    patched.split({PLAIN: LibraryPlan()})
    call = f"print(json.dumps(call_all(load({PLAIN!r}))))"
    assert patched.result(call) == whole.result(call)


def test_what_strip_has_emptied_is_dropped(tmp_path: Path) -> None:
    """strip makes zeros of what patchelf has overwritten, and these pages are left out as well."""
    if shutil.which("patchelf") is None:
        pytest.skip("needs patchelf")
    text = "".join(f"int a_name_that_takes_room_in_the_table_of_names_{number};\n" for number in range(NAMES))
    path = compile_library(text, tmp_path / "named.so")
    subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/" + "0" * 300, path], check=True)
    subprocess.run(["strip", path], check=True)
    library = SharedLibrary.read(path)
    dropped = [
        run
        for _, runs in plan_layout(library, frozenset(), 2).runs
        for run in runs
        if len(runs) > 1 and run.state is PageState.DEAD
    ]
    assert {bytes(set(library.at(run.start, run.end - run.start))) for run in dropped} == {b"\0"}
    assert sum(run.end - run.start for run in dropped) > NAMES * 40


def test_filled_pages_of_a_section_stay(tmp_path: Path) -> None:
    """Data that looks as if patchelf had overwritten it is in a section, and stays."""
    text = f"const char filled[] = {{ [0 ... {5 * PAGE_BYTES}] = 'X' }};"
    library = SharedLibrary.read(compile_library(text, tmp_path / "filled.so"))
    states = {run.state for _, runs in plan_layout(library, frozenset(), 1).runs for run in runs}
    assert PageState.DEAD not in states


def test_the_pager_must_be_there(whole: Tree, tmp_path: Path) -> None:
    """Without a compiled pager beside the side file nothing is split, and the error says what comes first."""
    tree = whole.copy(tmp_path / "tree")
    with pytest.raises(BuildError, match="build_pager"):
        thin({PLAIN: LibraryPlan()}, tree.root, tree.side_file)
