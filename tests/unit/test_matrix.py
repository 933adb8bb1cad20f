"""The table of what was run on which Python and torch."""

import json
import platform
from pathlib import Path

import pytest

from builder import paths
from layer_kit.page_tables import rule_of
from runtimes import foreign_python, matrix
from runtimes.emulated import EmulationError
from runtimes.matrix import Cell, CellError

MACHINE = platform.machine()
OTHER = "aarch64" if MACHINE == "x86_64" else "x86_64"
CELLS = [
    Cell("2.13.0", "3.9", problem="no wheel\nNext: x"),
    Cell("2.13.0", "3.13", "2026-11-29", 191_400_000, 282.4, "700 + 60 outputs bit for bit", "153 passed"),
    Cell("2.2.0", "3.13", "2026-11-29", 180_000_000, 100.0),
]


def test_the_cells_go_into_the_table_of_the_page(tmp_path: Path) -> None:
    """The rows are in order of versions; rows of others and what is around the table stay; a second time changes nothing."""
    page = tmp_path / "page.md"
    old = [f"| 2.13.0 | 3.13 | {machine} | 2020-01-01 | 1 MB | 1 s | no | old |" for machine in ("other", MACHINE)]
    page.write_text("\n".join(["before", "", matrix.HEAD, rule_of(matrix.HEAD), *old, "", "after", ""]))
    matrix.document(CELLS, page)
    lines = page.read_text().splitlines()
    assert lines[:4] == ["before", "", matrix.HEAD, rule_of(matrix.HEAD)]
    assert lines[-2:] == ["", "after"]
    rows = lines[4:-2]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| 2.2.0", "3.13"],
        ["| 2.13.0", "3.9"],
        *[["| 2.13.0", "3.13"]] * 2,
    ]
    assert rows[0].endswith("| no | not run |")
    assert rows[1].endswith("| no wheel |")
    assert rows[2] == old[0]
    assert rows[3].endswith("| 2026-11-29 | 191.4 MB | 282 s | 700 + 60 outputs bit for bit | 153 passed |")
    matrix.document(CELLS, page)
    assert page.read_text().splitlines() == lines


def test_a_row_can_be_read_from_the_last_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run, the size, the time and what was verified come from the build's report and log; without a build, none."""
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    cell = Cell("9.9.0", "3.13")
    assert matrix.run(cell, with_tests=False, budget=1, last_build=True)
    assert "no finished build" in (cell.problem or "")
    cell = Cell("9.9.0", "3.13")
    cell.folder.mkdir()
    steps = [{"seconds": 1.5}, {"seconds": 2.0}]
    (cell.folder / "report.json").write_text(json.dumps({"unzipped_bytes": 7, "steps": steps}))
    (cell.folder / "build.log").write_text(
        "verify 5 outputs of the workload and 6 outputs of 2 checks are equal bit for bit\n"
    )
    assert matrix.run(cell, with_tests=False, budget=1, last_build=True)
    assert (cell.problem, cell.unzipped_bytes, cell.build_seconds) == (None, 7, 3.5)
    assert cell.verified == "5 + 6 outputs bit for bit"


def test_runs_side_by_side_keep_each_others_results(tmp_path: Path) -> None:
    """A result goes beside those that other runs have written since this one began, and replaces the cell's own last one."""
    results = tmp_path / "matrix.json"
    matrix._keep(results, CELLS[0])
    matrix._keep(results, CELLS[1])
    known = matrix._keep(results, Cell("2.13.0", "3.9", "2026-11-30"))
    assert sorted(known) == [("2.13.0", "3.13", MACHINE), ("2.13.0", "3.9", MACHINE)]
    assert known["2.13.0", "3.9", MACHINE].problem is None
    assert matrix._known(results) == known


@pytest.mark.parametrize(("text", "cells"), [("no table\n", CELLS), (f"{matrix.HEAD}\n", [])])
def test_a_page_without_the_table_is_not_changed(tmp_path: Path, text: str, cells: list[Cell]) -> None:
    """A page without such a table, or a machine where nothing was run, is an error."""
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(CellError):
        matrix.document(cells, page)
    assert page.read_text() == text


def test_the_documented_table_has_the_programs_form() -> None:
    """The table in docs/testing.md is one that the program replaces."""
    assert matrix.PAGE.read_text().splitlines().count(matrix.HEAD) == 1


def test_what_a_machine_lacks_replaces_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell whose Python or wheel is not here is said to be not run, and its last result stays."""
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    matrix._keep(tmp_path / "matrix.json", CELLS[1])

    def lacks_it(cell: Cell, **_options: object) -> bool:
        cell.problem = "There is no CPython"
        return False

    monkeypatch.setattr(matrix, "run", lacks_it)
    assert matrix.main(["--python", CELLS[1].python, "--torch", CELLS[1].torch]) == 1
    assert "NOT RUN: There is no CPython" in capsys.readouterr().out
    assert list(matrix._known(tmp_path / "matrix.json").values()) == [CELLS[1]]


def test_a_result_without_a_machine_is_this_machines(tmp_path: Path) -> None:
    """Results that were written before cells had a machine are read as those of this machine's processors."""
    results = tmp_path / "matrix.json"
    results.write_text(json.dumps([{"torch": "2.13.0", "python": "3.13"}]))
    assert list(matrix._known(results)) == [("2.13.0", "3.13", MACHINE)]


def test_a_cell_for_other_processors_has_a_row_and_a_folder_of_its_own(tmp_path: Path) -> None:
    """Cells that differ in the processors alone stand beside each other, each with its machine."""
    cells = [Cell("2.13.0", "3.13", tests="153 passed"), Cell("2.13.0", "3.13", machine=OTHER)]
    page = tmp_path / "page.md"
    page.write_text(f"{matrix.HEAD}\n{rule_of(matrix.HEAD)}\n")
    matrix.document(cells, page)
    rows = page.read_text().splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == [MACHINE, OTHER]
    assert rows[1].endswith("| not run |")
    assert cells[0].folder != cells[1].folder


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a cell starts; its environment, its wheel and its interpreter for other processors are there."""
    commands: list[list[str]] = []
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix, "environment_of", lambda _cell, with_tests: (Path(f"python-{with_tests}"), {}))
    monkeypatch.setattr(matrix, "read_build", lambda _cell: None)
    monkeypatch.setattr(matrix, "run_tests", lambda *_: commands.append(["tests"]))
    monkeypatch.setattr(matrix, "_run", lambda command, *_: commands.append([str(part) for part in command]))
    monkeypatch.setattr(foreign_python, "have", lambda version, machine, _folder: Path(f"{machine}-python{version}"))
    return commands


def test_other_processors_are_emulated_and_the_tests_are_not(started: list[list[str]], tmp_path: Path) -> None:
    """The builder runs in `runtimes.emulated` with an interpreter for the cell's processors; this machine's runs by itself."""
    assert matrix.run(Cell("2.13.0", "3.13", machine=OTHER), with_tests=True, budget=7)
    ((python, _, program, *options),) = started
    assert (python, program) == ("python-False", "runtimes.emulated")
    own, builders = options[: options.index("--")], options[options.index("--") + 1 :]
    assert own[:4] == ["--interpreter", f"{OTHER}-python3.13", "--wheels", str(tmp_path / "wheels")]
    (known,) = paths.PROFILES.glob(f"torch-2.13.0+cpu-cpython-313-{MACHINE}-workload.json")
    assert own[4:] == ["--known", str(known)]
    assert builders[builders.index("--budget") + 1] == "7"
    started.clear()
    assert matrix.run(Cell("2.13.0", "3.13"), with_tests=True, budget=7)
    assert [command[:3] for command in started] == [["python-True", "-m", "builder"], ["tests"]]


def test_a_machine_without_an_emulator_lacks_the_cell(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interpreter cannot be had or run, the cell says what to install, and nothing is fetched or built."""

    def missing(*_: object) -> Path:
        raise EmulationError("x does not run here\nNext: apt-get install qemu-user-static")

    monkeypatch.setattr(foreign_python, "have", missing)
    cell = Cell("2.13.0", "3.13", machine=OTHER)
    assert not matrix.run(cell, with_tests=True, budget=7)
    assert "qemu-user-static" in (cell.problem or "")
    assert started == []
