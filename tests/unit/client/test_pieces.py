"""Bytes of an answer in pieces, cut anywhere."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch_client import ApiError, StreamEnd, StreamError
from lambda_torch_client.pieces import MEDIA_TYPES, Form, PieceDecoder
from serving.errors import HttpError
from serving.http.framing import FRAMINGS

FORMS: list[Form] = ["events", "lines"]
END = {"finish_reason": "stop", "pieces": 2, "first_piece_ms": 1.5, "pieces_per_second": 3.0}


def read(form: Form, body: bytes, cuts: list[int]) -> tuple[list[Any], StreamEnd | None]:
    """The pieces and the end of a body that arrives in parts."""
    decoder = PieceDecoder(form)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    found = [piece for start, end in itertools.pairwise(places) for piece in decoder.feed(body[start:end])]
    decoder.close()
    return found, decoder.end


@given(st.sampled_from(FORMS), st.lists(st.text()), st.lists(st.integers(0, 10_000), max_size=20))
def test_what_the_function_writes_is_read(form: Form, pieces: list[str], cuts: list[int]) -> None:
    """Whatever the pieces are, and wherever the network cuts them, the client has the same ones."""
    written = FRAMINGS[MEDIA_TYPES[form]]
    body = b"".join(map(written.piece, pieces)) + written.end(END)
    found, end = read(form, body, cuts)
    assert found == pieces
    assert end == StreamEnd("stop", 2, 1.5, 3.0)


@given(st.sampled_from(FORMS), st.lists(st.integers(0, 10_000), max_size=5))
def test_the_functions_error_is_raised(form: Form, cuts: list[int]) -> None:
    """The error at the end of an answer has its code and its next step."""
    written = FRAMINGS[MEDIA_TYPES[form]]
    error = HttpError(400, "too_long", "It is too long. Next: ask for less.", {"limit": 3})
    with pytest.raises(ApiError) as caught:
        read(form, written.piece("a") + written.error(error), cuts)
    assert (caught.value.code, caught.value.next_step, caught.value.details) == (
        "too_long",
        "ask for less",
        {"limit": 3},
    )


@given(st.sampled_from(FORMS), st.binary(max_size=200))
def test_other_bytes_are_an_error_and_no_answer(form: Form, body: bytes) -> None:
    """Random bytes raise a StreamError: nothing that has no end passes for an answer."""
    with pytest.raises((StreamError, ApiError)):
        read(form, body, [])


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("events", b"event: end\ndata: {}\n\n"),
        ("lines", b'{"end": [1]}\n'),
        ("lines", b'{"piece": 1, "end": 2}\n'),
        ("events", b": a comment\nretry: 3\nid: 1\n\n"),
    ],
)
def test_ends_that_are_none(form: Form, body: bytes) -> None:
    """An end without its figures, two keys in a line, and events without data are no end."""
    with pytest.raises(StreamError):
        read(form, body, [])
