"""Pieces on their way: whatever they are, a reader gets them back as they were."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from serving.errors import HttpError
from serving.http.framing import EVENT_STREAM, FRAMINGS, JSON_LINES, Framing, Piece, accepted

# With half surrogate pairs, NUL, both kinds of line ends, and every other separator that a text may have.
TEXTS = st.text(st.characters() | st.sampled_from("\r\n\u2028\u2029\u0085\x00\x0b\x0c\x1e:{}\ud800"))
WHOLE_TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\u2028\u2029\u0085\x00:{}"))


class Word(BaseModel):
    """A piece that is an object."""

    text: str
    score: float | None = None


PIECES = TEXTS | st.builds(Word, text=WHOLE_TEXTS, score=st.none() | st.floats(allow_nan=False, allow_infinity=False))


def event_stream(body: bytes) -> Iterator[tuple[str, Any]]:
    """Names and data of server-sent events, as the HTML standard parses them (section 9.2.6)."""
    name, data = "", list[str]()
    text = body.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)


def json_lines(body: bytes) -> Iterator[tuple[str, Any]]:
    """Keys and values of lines of JSON."""
    assert body == b"" or body.endswith(b"\n")
    for line in body.split(b"\n")[:-1]:
        ((name, value),) = json.loads(line).items()
        yield ("" if name == "piece" else name), value


READERS = {"text/event-stream": event_stream, "application/x-ndjson": json_lines}


def plain(piece: Piece) -> Any:
    """What JSON has for a piece."""
    return piece if isinstance(piece, str) else json.loads(piece.model_dump_json())


@pytest.mark.parametrize("kind", FRAMINGS)
@given(pieces=st.lists(PIECES), summary=st.dictionaries(WHOLE_TEXTS, st.integers() | WHOLE_TEXTS))
def test_what_is_framed_is_read_back(kind: str, pieces: list[Piece], summary: dict[str, Any]) -> None:
    """Any pieces and any end come back as they were, in their order, through a reader of the standard."""
    framing = FRAMINGS[kind]
    body = b"".join([*map(framing.piece, pieces), framing.end(summary)])
    *found, end = READERS[kind](body)
    assert found == [("", plain(piece)) for piece in pieces]
    assert end == ("end", summary)


@pytest.mark.parametrize("kind", FRAMINGS)
@given(pieces=st.lists(PIECES, max_size=3), message=WHOLE_TEXTS)
def test_an_error_is_the_last_of_its_kind(kind: str, pieces: list[Piece], message: str) -> None:
    """An error has a name of its own, so that no piece can be taken for it."""
    framing = FRAMINGS[kind]
    error = HttpError(500, "internal_error", message, {"n": 1})
    *found, (name, told) = READERS[kind](b"".join([*map(framing.piece, pieces), framing.error(error)]))
    assert all(each == "" for each, _ in found)
    assert name == "error"
    assert told.get("error", told) == error.body()["error"]


@pytest.mark.parametrize("kind", FRAMINGS)
@given(piece=PIECES)
def test_each_piece_is_whole_by_itself(kind: str, piece: Piece) -> None:
    """The bytes of one piece are one event or line: nothing waits for the next one."""
    assert list(READERS[kind](FRAMINGS[kind].piece(piece))) == [("", plain(piece))]


def test_what_json_cannot_hold_is_an_error() -> None:
    """A model's object with half a surrogate pair cannot be written."""
    with pytest.raises(ValueError, match="surrogates"):
        EVENT_STREAM.piece(Word(text="\ud800"))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", None),
        ("*/*", None),
        ("text/*", None),
        ("application/json", None),
        ("text/html, */*;q=0.8", None),
        ("text/event-stream", EVENT_STREAM),
        ("Text/Event-Stream; charset=utf-8", EVENT_STREAM),
        ("application/x-ndjson", JSON_LINES),
        ("application/x-ndjson, text/event-stream", JSON_LINES),
        ("text/event-stream, application/json", EVENT_STREAM),
        ("application/json, text/event-stream", None),
        ("application/json;q=0.5, text/event-stream", EVENT_STREAM),
        ("text/event-stream;q=0.5, application/json", None),
        ("text/event-stream;q=0.5, application/x-ndjson;q=0.6", JSON_LINES),
        ("text/event-stream;q=0", None),
        ("text/event-stream;q=much", None),
        ("text/event-stream; q = 0.4, */*", EVENT_STREAM),
        ("xtext/event-stream", None),
        (";;,,;q", None),
    ],
)
def test_a_client_asks_by_its_accept_header(accept: str, wanted: Framing | None) -> None:
    """The type with the highest weight counts, then the first; a wildcard asks for nothing."""
    assert accepted(accept) is wanted


@given(accept=st.text())
def test_no_header_breaks_a_request(accept: str) -> None:
    """Whatever the header says, it asks for a framing or for none."""
    assert accepted(accept) in (None, EVENT_STREAM, JSON_LINES)
