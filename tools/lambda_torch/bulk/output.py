"""The output file of a run. It also shows how far the run came: the next run continues after the last complete line."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from lambda_torch.errors import BulkError

# The error code of a line whose batch failed after all retries.
NOT_ANSWERED = "not_answered"


@dataclass
class Counts:
    """How many lines are responses, refused requests, and failures of the model."""

    answered: int = 0
    refused: int = 0
    failed: int = 0

    def add(self, line: bytes) -> None:
        """Count a line of the output."""
        error = json.loads(line).get("error")
        if error is None:
            self.answered += 1
        elif error.get("code") in ("internal_error", NOT_ANSWERED):
            self.failed += 1
        else:
            self.refused += 1

    @property
    def total(self) -> int:
        """All lines."""
        return self.answered + self.refused + self.failed


@dataclass
class Output:
    """An output file that is written line by line, in order.

    Attributes:
        done: the number of lines in it.
        counts: how many lines there are of each kind.
        complete: the run sets it when every line is written.
    """

    path: Path
    _file: BinaryIO
    done: int
    counts: Counts = field(default_factory=Counts)
    complete: bool = False

    def write(self, lines: bytes, count: int) -> None:
        """Add complete lines."""
        self._file.write(lines)
        self._file.flush()
        self.done += count

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, identity: str) -> Iterator[Self]:
        """The output of a run over the input with this identity: a new file, or the unfinished file of the same run.

        An unfinished file has a note with the identity beside it. The note is removed when every line is written. If no
        line was written, both are removed.

        Raises:
            BulkError: the file exists and does not belong to an unfinished run over this input.
        """
        note = path.with_name(f"{path.name}.unfinished")
        if path.exists():
            _check_note(path, note, identity)
        else:
            note.write_text(identity)
        with path.open("a+b") as file:
            done, counts, size = _whole_lines(file, path)
            # An incomplete last line was being written when the earlier run ended.
            file.truncate(size)
            output = cls(path, file, done, counts)
            try:
                yield output
            finally:
                file.flush()
                os.fsync(file.fileno())
                if not output.done:
                    path.unlink()
                if output.complete or not output.done:
                    note.unlink(missing_ok=True)


def _check_note(path: Path, note: Path, identity: str) -> None:
    try:
        found = note.read_text()
    except OSError:
        raise BulkError(
            f"{path} exists already, and it is not the output of an unfinished run. "
            "Next: name another --output, or remove it."
        ) from None
    if found != identity:
        raise BulkError(
            f"{path} is the unfinished output for another input, or the input has changed. "
            f"Next: name another --output, or remove {path} and {note} to start again."
        )


def _whole_lines(file: BinaryIO, path: Path) -> tuple[int, Counts, int]:
    """The number of complete lines in the file, how many there are of each kind, and their size in bytes."""
    file.seek(0)
    counts, size = Counts(), 0
    for number, line in enumerate(file):
        if not line.endswith(b"\n"):
            break
        try:
            index = json.loads(line)["index"]
            counts.add(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            index = None
        if index != number:
            raise BulkError(
                f"Line {number + 1} of {path} does not belong to this run. Next: name another --output, or remove it."
            )
        size += len(line)
    return counts.total, counts, size
