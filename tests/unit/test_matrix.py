"""The table of what was run on which Python and torch."""

from pathlib import Path

import pytest

from runtimes import matrix
from runtimes.matrix import Cell, CellError

CELLS = [
    Cell("2.13.0", "3.9", problem="no wheel\nNext: x"),
    Cell("2.13.0", "3.13", "2026-11-29", 191_400_000, 282.4, "700 + 60 outputs bit for bit", "153 passed"),
    Cell("2.2.0", "3.13", "2026-11-29", 180_000_000, 100.0),
]


def test_the_table_replaces_the_one_in_the_page(tmp_path: Path) -> None:
    """The rows are in order of versions; what is around the table stays, and a second time changes nothing."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{matrix.HEAD}\n|---|\n| old |\n\nafter\n")
    matrix.document(CELLS, page)
    lines = page.read_text().splitlines()
    assert lines[:2] == ["before", ""]
    assert lines[-2:] == ["", "after"]
    assert [line.split(" | ")[:2] for line in lines[4:-2]] == [
        ["| 2.2.0", "3.13"],
        ["| 2.13.0", "3.9"],
        ["| 2.13.0", "3.13"],
    ]
    assert lines[-3].endswith("| 2026-11-29 | 191.4 MB | 282 s | 700 + 60 outputs bit for bit | 153 passed |")
    assert lines[4].endswith("| no | not run |")
    assert lines[5].endswith("| no wheel |")
    matrix.document(CELLS, page)
    assert page.read_text().splitlines() == lines


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
