import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.bulk.lines import BATCH_BYTES, batches, read_input
from lambda_torch.errors import BulkError

values = st.recursive(
    st.none() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)


@given(st.lists(values, min_size=1, max_size=30), st.integers(1, 10), st.data())
def test_batches_have_every_line_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, items: list[object], size: int, data: st.DataObject
) -> None:
    """However a file is cut, and wherever a run goes on, the batches' events carry each remaining line once, with its index."""
    path = tmp_path_factory.mktemp("lines") / "in.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in items))
    source = read_input(path)
    assert source.count == len(items)
    skip = data.draw(st.integers(0, len(items)))
    cut = list(batches(source, lambda: size, skip))
    assert all(len(each.lines) <= size for each in cut)
    found = [item for each in cut for item in json.loads(each.event())["items"]]
    assert found == [{"index": index, "value": items[index]} for index in range(skip, len(items))]


def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    """Long lines make small batches, and a line that is longer than a batch may be goes alone."""
    path = tmp_path / "in.jsonl"
    long, longer = json.dumps("x" * (BATCH_BYTES // 2 - 10)), json.dumps("x" * (2 * BATCH_BYTES))
    path.write_text("".join(f"{each}\n" for each in [long, long, long, longer, '"short"']))
    assert [len(each.lines) for each in batches(read_input(path), lambda: 100)] == [2, 1, 1, 1]


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    """The last line need not end in a newline; Windows' line ends are no part of a line."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\r\n{"a": 2}')
    assert [each.lines for each in batches(read_input(path), lambda: 10)] == [[b'{"a": 1}', b'{"a": 2}']]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b'{"a": 1}\n\n{"a": 2}\n', "Line 2 of .* is empty"),
        (b'{"a": 1}\n{"a": \n', "Line 2 of .* is not JSON"),
        (b'{"a": 1}\n\xff\n', "Line 2 of .* is not JSON"),
        (b'\xef\xbb\xbf{"a": 1}\n', "Line 1 of .* is not JSON: Unexpected UTF-8 BOM"),
        ('{"a": 1}'.encode("utf-16-le"), "Line 1 of .* is not JSON"),
        (b"[" * 100_000 + b"\n", "Line 1 of .* is not JSON"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(tmp_path: Path, content: bytes, said: str) -> None:
    """What is not one JSON value a line is told with the line's number, before anything is asked."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with pytest.raises(BulkError, match=said):
        read_input(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    with pytest.raises(BulkError, match=r"in\.jsonl cannot be read: No such file"):
        read_input(tmp_path / "in.jsonl")
