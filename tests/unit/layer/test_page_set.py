"""Sets of pages: what is recorded, stored and united."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.native.page_set import PageSet, runs

page_sets = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.frozensets(st.integers(0, 1 << 24), max_size=40),
    max_size=4,
).map(PageSet)


@given(page_sets)
def test_json_round_trip(pages: PageSet) -> None:
    """A set comes back from JSON as it was."""
    assert PageSet.from_json(pages.to_json()) == pages


@given(page_sets, page_sets)
def test_union(left: PageSet, right: PageSet) -> None:
    """A union has exactly the pages of both, per library, whatever the order."""
    both = left | right
    assert both == right.union(left)
    for library in {*left.pages, *right.pages}:
        assert both.of(library) == left.of(library) | right.of(library)


@given(st.frozensets(st.integers(0, 500)))
def test_runs_are_maximal(numbers: frozenset[int]) -> None:
    """Runs cover the numbers exactly, and no two runs touch."""
    found = list(runs(numbers))
    assert {number for start, end in found for number in range(start, end)} == numbers
    assert all(before[1] < after[0] for before, after in pairwise(found))


def test_json_is_compact() -> None:
    """Neighbouring pages are written as one range, in hexadecimal."""
    value = PageSet({"lib.so": frozenset({16, 17, 18, 255})}).to_json()
    assert value["libraries"] == {"lib.so": "10-12 ff"}


@pytest.mark.parametrize("value", [[], None, {}, {"page_bytes": 4096}, {"page_bytes": 4096, "libraries": {"a": "zz"}}])
def test_what_is_no_set_is_refused(value: object) -> None:
    """Any other JSON value is refused, with what to do."""
    with pytest.raises(BuildError, match="not a set of recorded pages") as caught:
        PageSet.from_json(value)
    assert "record" in caught.value.next_step


def test_pages_of_another_size() -> None:
    """A set that counts in pages of another size is refused."""
    with pytest.raises(BuildError, match="65536"):
        PageSet.from_json({"page_bytes": 65536, "libraries": {}})


def test_a_record_is_in_addresses(tmp_path: Path) -> None:
    """A record's addresses and sizes become whole pages."""
    path = tmp_path / "record.txt"
    path.write_text("lib.so\t1000\t1000\nlib.so\t2fff\t2\nother.so\t0\t1\n")
    pages = PageSet.from_record(path)
    assert pages.of("lib.so") == {1, 2, 3}
    assert pages.of("other.so") == {0}
    assert pages.count() == 4
