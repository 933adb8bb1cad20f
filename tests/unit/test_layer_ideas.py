"""What benchmarks.layer.smaller counts."""

import pytest
from benchmarks.layer.smaller import joined, relr_words


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([], 0),
        ([16], 1),
        ([16, 24, 32], 2),
        # The 63 words after the address are in the first bitmap, and the next 63 in another one.
        ([0, *range(8, 64 * 8, 8)], 2),
        ([0, *range(8, 65 * 8, 8)], 3),
        ([0, 8, 64 * 8, 65 * 8], 3),
        # A place after a gap of a whole bitmap begins anew with an address.
        ([0, 8, 1000 * 8], 3),
        # A place that is no multiple of eight bytes away needs an address of its own.
        ([0, 12], 2),
    ],
)
def test_packed_relocations_need_an_address_and_bits(places: list[int], words: int) -> None:
    """DT_RELR has an address, and then a bit for each of the 63 words after it, as the generic ABI says."""
    assert relr_words(places) == words


def test_neighbouring_blocks_become_one() -> None:
    """Larger blocks have the same bytes in the same order, and the last one may be smaller."""
    assert joined([(1, b"a"), (2, b"b"), (3, b"c")], 2) == [(3, b"ab"), (3, b"c")]
