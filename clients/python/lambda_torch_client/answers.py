"""The parts of requests and answers that are the same for every model."""

import base64
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypedDict

from typing_extensions import TypeVar

Value = TypeVar("Value", covariant=True)


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """An answer with what its headers say.

    Attributes:
        value: the decoded JSON.
        release: the version of the release that answered.
        timing: milliseconds of each phase, from `Server-Timing` (docs/receipts.md).
        request_id: the id that the function's log has; None where no header names one.
    """

    value: Value
    release: str | None
    timing: Mapping[str, float]
    request_id: str | None


@dataclass(frozen=True)
class StreamEnd:
    """How an answer in pieces ended (docs/streaming.md).

    Attributes:
        finish_reason: `stop`, `deadline`, `length`, or the model's own.
        pieces: how many there were.
        first_piece_ms: milliseconds in the function until the first piece.
        pieces_per_second: of the pieces after the first.
    """

    finish_reason: str
    pieces: int
    first_piece_ms: float
    pieces_per_second: float


class UploadRef(TypedDict):
    """A file that was uploaded: stands in a request in the place of the file."""

    upload: str


def data_url(file: str | Path | bytes, media_type: str | None = None) -> str:
    """A file as the text that stands in a request: `data:image/png;base64,...`.

    Args:
        file: its path, or its bytes.
        media_type: default: by the path's suffix, or `application/octet-stream`.
    """
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    guessed = None if isinstance(file, bytes) else mimetypes.guess_type(str(file))[0]
    return f"data:{media_type or guessed or 'application/octet-stream'};base64,{base64.b64encode(content).decode()}"


def from_data_url(text: str) -> bytes:
    """The bytes of an image, sound or file of an answer.

    Raises:
        ValueError: the text is no `data:` URL in base64.
    """
    head, comma, content = text.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ValueError("this is no data: URL in base64")
    return base64.b64decode(content, validate=True)


def timing(header: str) -> dict[str, float]:
    """The phases of a `Server-Timing` header with a duration, in milliseconds."""
    found: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if name and key == "dur":
                try:
                    found[name] = float(value)
                except ValueError:
                    continue
    return found
