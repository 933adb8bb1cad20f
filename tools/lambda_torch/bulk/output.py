"""The file of a run's lines, which is also the record of how far it came: a run goes on after the last whole line."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from lambda_torch.errors import BulkError

# The code of a line whose batch was given up.
NOT_ANSWERED = "not_answered"


@dataclass
class Counts:
    """How many lines are responses, refusals, and failures of the model."""

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
    """An output file being written, line by line, in order.

    Attributes:
        done: how many lines are there.
        counts: what they are.
        complete: to be set when every line is there.
    """

    path: Path
    _file: BinaryIO
    done: int
    counts: Counts = field(default_factory=Counts)
    complete: bool = False

    def write(self, lines: bytes, count: int) -> None:
        """Add whole lines."""
        self._file.write(lines)
        self._file.flush()
        self.done += count

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, identity: str) -> Iterator[Self]:
        """The output of a run over the input of this identity: a new file, or the one that the same run left unfinished.

        Beside an unfinished file lies a note with the identity; it goes when every line is there. Where none was written, both
        go.

        Raises:
            BulkError: there is a file that is not of an unfinished run over this input.
        """
        note = path.with_name(f"{path.name}.unfinished")
        if path.exists():
            _check_note(path, note, identity)
        else:
            note.write_text(identity)
        with path.open("a+b") as file:
            done, counts, size = _whole_lines(file, path)
            # What follows the last whole line was being written when the run was ended.
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
            f"{path} is there already, and is no unfinished run's. Next: name another --output, or remove it."
        ) from None
    if found != identity:
        raise BulkError(
            f"{path} is the unfinished run of another input, or its input has changed since. "
            f"Next: name another --output, or remove {path} and {note} to start anew."
        )


def _whole_lines(file: BinaryIO, path: Path) -> tuple[int, Counts, int]:
    """How many whole lines the file has, what they are, and how many bytes that is."""
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
                f"Line {number + 1} of {path} is not this run's. Next: name another --output, or remove it."
            )
        size += len(line)
    return counts.total, counts, size
