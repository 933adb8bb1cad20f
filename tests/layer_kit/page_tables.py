"""Tables of results that stand in a document: a program replaces their rows."""

from collections.abc import Callable, Sequence
from pathlib import Path


class PageError(Exception):
    """A page does not have the table; the message says which."""


def rule_of(head: str) -> str:
    """The line below a table's head, in Markdown."""
    return "|" + "---|" * (head.count("|") - 1)


def put_rows(page: Path, head: str, rows: Callable[[list[str]], Sequence[str]]) -> None:
    """Replace the rows of the table that begins with `head`.

    Args:
        page: The document.
        head: The table's first line.
        rows: Gives the new rows; it gets those that are there.

    Raises:
        PageError: the page has no such table, or several.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    if lines.count(head) != 1:
        raise PageError(f"{page} has no table that begins with {head}")
    start = lines.index(head)
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("|")), len(lines))
    table = [head, rule_of(head), *rows(lines[start + 2 : end])]
    page.write_text("\n".join([*lines[:start], *table, *lines[end:]]) + "\n", encoding="utf-8")
