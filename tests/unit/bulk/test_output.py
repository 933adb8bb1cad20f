import json
from pathlib import Path

import pytest

from lambda_torch.bulk.output import Counts, Output
from lambda_torch.errors import BulkError


def line(index: int, code: str | None = None) -> bytes:
    """A line of an output."""
    rest: dict[str, object] = {"response": []} if code is None else {"error": {"code": code}}
    return json.dumps({"index": index, **rest}).encode() + b"\n"


def test_an_ended_run_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    """Whatever was being written when the run was ended is dropped, and what was whole is counted, not asked again."""
    path = tmp_path / "out.jsonl"
    with Output.opened(path, "input") as output:
        output.write(line(0) + line(1, "invalid_request"), 2)
    with path.open("ab") as file:
        file.write(line(2)[:-4])
    with Output.opened(path, "input") as output:
        assert output.done == 2
        assert output.counts == Counts(answered=1, refused=1)
        output.write(line(2, "internal_error"), 1)
        output.complete = True
    assert path.read_bytes() == line(0) + line(1, "invalid_request") + line(2, "internal_error")
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_finished_file_is_not_overwritten(tmp_path: Path) -> None:
    """A file without a note is somebody's, and stays as it is."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"precious\n")
    with pytest.raises(BulkError, match="exists already"), Output.opened(path, "input"):
        pass
    assert path.read_bytes() == b"precious\n"


def test_an_unfinished_run_of_another_input_is_not_continued(tmp_path: Path) -> None:
    """Lines of two inputs never get into one file."""
    path = tmp_path / "out.jsonl"
    with Output.opened(path, "input") as output:
        output.write(line(0), 1)
    with pytest.raises(BulkError, match="unfinished output for another input"), Output.opened(path, "another"):
        pass
    assert path.read_bytes() == line(0)


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    """What failed before its first line stands in nobody's way."""
    with pytest.raises(BulkError, match="no such run"), Output.opened(tmp_path / "out.jsonl", "input"):
        raise BulkError("no such run")
    assert list(tmp_path.iterdir()) == []


def test_lines_that_are_not_the_runs_are_told(tmp_path: Path) -> None:
    """A file whose lines are not in order was changed by somebody, and is not continued."""
    path = tmp_path / "out.jsonl"
    with Output.opened(path, "input") as output:
        output.write(line(0) + line(2), 2)
    with pytest.raises(BulkError, match=r"Line 2 of .* does not belong to this run"), Output.opened(path, "input"):
        pass
