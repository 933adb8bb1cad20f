"""The style of tables in the terminal."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_torch.commands._tables import WIDTH, print_table

CELLS = st.text(alphabet="abc ._-/", max_size=300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, st.integers(0, 10**12), st.integers(0, 10**12), CELLS), max_size=5))
def test_a_table_fits_and_cuts_no_number(
    rows: list[tuple[str, int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """However long the texts are, no line is wider than 100 columns, and each number stands whole in a line."""
    print_table(("name", "#size", "#before", "about"), [(a, f"{b:,}", f"{c:,}", d) for a, b, c, d in rows])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    words = [word for line in lines for word in line.split()]
    assert all(f"{number:,}" in words for _, b, c, _ in rows for number in (b, c))
