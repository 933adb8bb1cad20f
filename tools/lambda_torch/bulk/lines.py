"""A JSON Lines file (https://jsonlines.org): all of it is checked before the first request, then read in batches."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from lambda_torch.errors import BulkError

# The event of a batch must be much smaller than Lambda's 6 MB, because answers may be larger than requests.
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True)
class Input:
    """A checked file.

    Attributes:
        count: the number of its lines.
        sha256: the hash of its bytes, in hex.
    """

    path: Path
    count: int
    sha256: str


@dataclass(frozen=True)
class Batch:
    """Lines that follow each other: JSON texts without line ends. `first` is the index of the first line, from 0."""

    first: int
    lines: list[bytes]

    def event(self) -> bytes:
        """The function's event for these lines (see `serving.jobs.bulk`)."""
        items = b",".join(
            b'{"index":%d,"value":%s}' % (index, line) for index, line in enumerate(self.lines, self.first)
        )
        return b'{"lambda-torch":"bulk","items":[%s]}' % items


def read_input(path: Path) -> Input:
    """Read the whole file once and check it.

    Raises:
        BulkError: it cannot be read, is empty, or a line is not JSON. The message has the number of the line.
    """
    digest, count = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                digest.update(line)
                _check_line(path, number, line)
                count = number
    except OSError as error:
        raise BulkError(f"{path} cannot be read: {error.strerror or error}") from error
    if not count:
        raise BulkError(f"{path} is empty. Next: give it one request in each line, as JSON.")
    return Input(path, count, digest.hexdigest())


def _check_line(path: Path, number: int, line: bytes) -> None:
    with contextlib.suppress(ValueError):
        from_json(line)  # faster than `json`, whose messages are better
        return
    try:
        # The event must be UTF-8. `json` would accept UTF-16 too.
        json.loads(line.decode().rstrip("\r\n"))
    except (ValueError, RecursionError) as error:
        # json counts lines inside this line, so leave its line number out.
        problem = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        what = "is empty" if not line.strip() else f"is not JSON: {problem}"
        raise BulkError(
            f"Line {number} of {path} {what}. Nothing was sent. Next: give one request in each line."
        ) from None


def batches(source: Input, size: Callable[[], int], skip: int = 0) -> Iterator[Batch]:
    """The lines from index `skip` on, with at most BATCH_BYTES in a batch. A longer line is alone in its batch.

    Args:
        size: gives the most lines in the next batch. It is called for each batch.
    """
    first, lines, total, most = skip, list[bytes](), 0, size()
    with source.path.open("rb") as file:
        for index, raw in enumerate(file):
            if index < skip:
                continue
            line = raw.strip()
            if lines and (len(lines) >= most or total + len(line) > BATCH_BYTES):
                yield Batch(first, lines)
                first, lines, total, most = index, [], 0, size()
            lines.append(line)
            total += len(line)
    if lines:
        yield Batch(first, lines)
