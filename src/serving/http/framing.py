"""How the pieces of an answer stand in its body: as server-sent events, or as lines of JSON.

Either way each piece is one JSON text, so no piece can look like the end of another.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from serving import response_json
from serving.errors import HttpError
from serving.http import responses

# A model that gives its pieces as text gives strings; any other piece is an object of a type that the model documents.
Piece = BaseModel | str


class Framing(Protocol):
    """Makes the bytes of a body in pieces. Each call gives whole events or lines."""

    content_type: str

    def piece(self, piece: Piece, /) -> bytes:
        """The bytes of one piece.

        Raises:
            ValueError: the piece cannot be written as JSON.
        """
        ...

    def end(self, summary: Mapping[str, Any], /) -> bytes:
        """The bytes that end an answer: `finish_reason` and the figures of the stream."""
        ...

    def error(self, error: HttpError, /) -> bytes:
        """The bytes that end an answer which failed after its first piece."""
        ...


class EventStream:
    """Server-sent events (HTML standard, "Server-sent events").

    A piece is an event without a name, whose data is the piece. The events `end` and `error` end the answer.
    """

    content_type = "text/event-stream"

    def piece(self, piece: Piece) -> bytes:
        """`data: <the piece>`."""
        return _event("", piece_json(piece))

    def end(self, summary: Mapping[str, Any]) -> bytes:
        """`event: end`."""
        return _event("event: end\n", responses.json_text(summary).encode())

    def error(self, error: HttpError) -> bytes:
        """`event: error`. Its data is the body that the answer would have had."""
        return _event("event: error\n", responses.json_text(error.body()).encode())


class JsonLines:
    """Lines of JSON, each an object with one key: `piece`, `end` or `error`."""

    content_type = "application/x-ndjson"

    def piece(self, piece: Piece) -> bytes:
        """`{"piece": <the piece>}`."""
        return b'{"piece":' + piece_json(piece) + b"}\n"

    def end(self, summary: Mapping[str, Any]) -> bytes:
        """`{"end": {...}}`."""
        return responses.json_text({"end": summary}).encode() + b"\n"

    def error(self, error: HttpError) -> bytes:
        """`{"error": {...}}`, as the body of an error has it."""
        return responses.json_text(error.body()).encode() + b"\n"


EVENT_STREAM, JSON_LINES = EventStream(), JsonLines()
FRAMINGS: Mapping[str, Framing] = {each.content_type: each for each in (EVENT_STREAM, JSON_LINES)}


def piece_json(piece: Piece) -> bytes:
    """One piece as JSON text, in one line.

    Raises:
        ValueError: the piece cannot be written as JSON.
    """
    if isinstance(piece, BaseModel):
        return response_json.to_json(piece).encode()
    try:
        return json.dumps(piece, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return json.dumps(piece, allow_nan=False).encode()


def accepted(accept: str) -> Framing | None:
    """The framing that an `Accept` header asks for (RFC 9110, section 12.5.1); None where it asks for none.

    A wildcard asks for none. Of several types the one with the highest weight counts, and of those the first.
    """
    best: tuple[float, str] = (0.0, "")
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = _weight(parameters)
        if (kind in FRAMINGS or kind == "application/json") and weight > best[0]:
            best = (weight, kind)
    return FRAMINGS.get(best[1])


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _event(name: str, data: bytes) -> bytes:
    return name.encode() + b"data: " + data + b"\n\n"
