"""What the doctor found, as a table for people and as JSON for programs."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

FITS, MISFIT, LOOK, SKIPPED = "fits", "does not fit", "look at it", "not checked"


class Finding(NamedTuple):
    """One row of a rule, or one thing of the wheel, held against the other.

    Attributes:
        part: What it belongs to: "which modules wait", "sizes".
        where: The file that has the rule.
        row: Which row.
        status: FITS; MISFIT: it must be changed; LOOK: a person should decide; or SKIPPED.
        text: Why, and what to do; or what was measured.
    """

    part: str
    where: str
    row: str
    status: str
    text: str = ""


def misfits(found: Iterable[Finding]) -> list[Finding]:
    """What must be changed."""
    return [each for each in found if each.status == MISFIT]


def table(found: list[Finding], *, every_row: bool = False) -> Iterator[str]:
    """Lines of text: one for each part with its counts, then the rows that do not fit, or all.

    Args:
        found: The findings.
        every_row: Show the rows that fit, too.
    """
    parts = list(dict.fromkeys(each.part for each in found))
    yield f"{'part':<26}{FITS:>6}{MISFIT:>14}{LOOK:>12}{SKIPPED:>13}  rules"
    for part in parts:
        of_part = [each for each in found if each.part == part]
        counts = [sum(each.status == status for each in of_part) for status in (FITS, MISFIT, LOOK, SKIPPED)]
        yield "{:<26}{:>6}{:>14}{:>12}{:>13}  {}".format(part, *counts, of_part[0].where)
    for part in parts:
        shown = [each for each in found if each.part == part and (every_row or each.text)]
        if shown:
            yield ""
            yield f"{part}:"
        for each in shown:
            yield f"  {each.status:<13} {each.row}{': ' if each.text else ''}{each.text}"
    count = len(misfits(found))
    yield ""
    yield f"{count} rows do not fit" if count != 1 else "1 row does not fit"


def as_json(found: Iterable[Finding]) -> list[dict[str, str]]:
    """One object for each finding."""
    return [each._asdict() for each in found]
