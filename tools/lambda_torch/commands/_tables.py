"""The one style of tables: at most 100 columns wide, and no number is cut."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
# Between two columns.
GAP = 2


def console() -> "Console":
    """Standard output. A terminal keeps its own width up to WIDTH; a pipe or a file has WIDTH, so that lines stay whole."""
    from rich.console import Console

    own = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    return Console(width=min(own, WIDTH), highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table.

    Args:
        columns: the titles. One that begins with `#` is a column of numbers: to the right, and never broken.
        rows: the cells, as text.
        title: above the table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(
            column.removeprefix("#"), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


def megabytes(size: float) -> str:
    """Decimal megabytes with two digits, such as `1,234.50`."""
    return f"{size / 1e6:,.2f}"
