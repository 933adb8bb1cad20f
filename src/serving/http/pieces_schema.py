"""What the API's document says about answers in pieces."""

import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from serving.http.framing import EVENT_STREAM, JSON_LINES

END = {
    "type": "object",
    "title": "StreamEnd",
    "description": "How an answer in pieces ended.",
    "required": ["finish_reason", "pieces", "first_piece_ms", "pieces_per_second"],
    "properties": {
        "finish_reason": {
            "type": "string",
            "description": "The model's own reason or `stop`; `deadline`: time is up; `length`: no more bytes may be sent.",
        },
        "pieces": {"type": "integer", "description": "How many pieces there were."},
        "first_piece_ms": {"type": "number", "description": "Milliseconds until the first piece."},
        "pieces_per_second": {"type": "number", "description": "Pieces per second after the first one."},
    },
}


def piece_type(stream: Callable[..., object]) -> Any:
    """The type of the pieces, by the annotation of the model's method `stream`; Any where it has none."""
    try:
        returned = typing.get_type_hints(stream).get("return")
    except (NameError, TypeError):  # an annotation that names what does not exist at run time
        return Any
    arguments = typing.get_args(returned)
    return arguments[0] if arguments else Any


def piece_models(stream: Callable[..., object]) -> list[type[BaseModel]]:
    """The pydantic models among the types of the pieces."""
    kind = piece_type(stream)
    return [each for each in (kind, *typing.get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]


def contents(stream: Callable[..., object], schemas: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    """The contents of an answer in pieces, by their media types.

    Args:
        schemas: a schema for each of `piece_models`.
    """
    kind = piece_type(stream)
    found = [schemas[each] for each in piece_models(stream)]
    if kind is str or str in typing.get_args(kind):
        found.append({"type": "string"})
    piece = {} if not found else found[0] if len(found) == 1 else {"anyOf": found}
    line = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "piece": piece,
            "end": {"$ref": "#/components/schemas/StreamEnd"},
            "error": {"$ref": "#/components/schemas/Error/properties/error"},
        },
    }
    events = "Server-sent events, on request. Data of an event without a name is a piece; the last is `end` or `error`."
    lines = "Lines of JSON, on request. The last one is `end` or `error`."
    return {
        EVENT_STREAM.content_type: {"schema": _text(EVENT_STREAM.content_type, piece, events)},
        JSON_LINES.content_type: {"schema": _text(JSON_LINES.content_type, line, lines)},
    }


def _text(kind: str, part: Mapping[str, Any], description: str) -> dict[str, Any]:
    """A body as text (JSON Schema 2020-12, "A vocabulary for the contents of string-encoded data"), with its part's schema."""
    return {"type": "string", "contentMediaType": kind, "contentSchema": part, "description": description}
