"""The list of each distribution's files, as `importlib.metadata.files` reads it: RECORD, for what the layer has of them."""

import csv
import io
from collections.abc import Collection
from pathlib import Path


def write_records(staged: Path, output: Path, files: Collection[str]) -> int:
    """Write `*.dist-info/RECORD` into the layer, and return how many there are.

    Hashes and sizes are left out: libraries are not as they were in the wheel, and sources that lie in the archive are no files.

    Args:
        staged: The tree with the RECORD files that pip wrote.
        output: The layer's tree.
        files: Paths of all files of the staged tree.
    """
    there = frozenset(files)
    records = sorted(staged.glob("*.dist-info/RECORD"))
    for record in records:
        with record.open(encoding="utf-8", newline="") as file:
            paths = [row[0] for row in csv.reader(file) if row]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((path, "", "") for path in paths if path in there)
        target = output / record.relative_to(staged)
        target.unlink(missing_ok=True)  # it may be a hard link to the staged one
        target.write_text(text.getvalue(), encoding="utf-8")
    return len(records)
