"""What a function streams reaches the reader whole, however it was cut on the way."""

import asyncio
import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.emulator.answer_stream import (
    HTTP_TYPE,
    PRELUDE_LIMIT,
    SEPARATOR,
    AnswerStream,
    BrokenStreamError,
)

PRELUDES = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


class Function:
    """The function's side of a stream: what is asked of it."""

    def __init__(self, content_type: str = HTTP_TYPE) -> None:
        self.asked: list[str] = []
        self.stream = AnswerStream(
            content_type,
            lambda: self.asked.append("pause"),
            lambda: self.asked.append("resume"),
            lambda: self.asked.append("drop"),
        )


async def read(stream: AnswerStream) -> tuple[Any, bytes, str | None]:
    """The prelude, the pieces joined, and the error at the end."""
    found = b""
    prelude = None
    try:
        prelude = await stream.read_prelude()
        while piece := await stream.piece():
            found += piece
    except BrokenStreamError as error:
        return prelude, found, str(error)
    return prelude, found, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in parts, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(PRELUDES, st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=12))
def test_prelude_and_payload_survive_any_cut(prelude: dict[str, Any], payload: bytes, places: list[int]) -> None:
    """Wherever the network cuts the bytes, also within the separator, prelude and payload are the same."""

    async def run() -> tuple[Any, bytes, str | None]:
        function = Function()
        reading = asyncio.ensure_future(read(function.stream))
        for part in cut(json.dumps(prelude).encode() + SEPARATOR + payload, places):
            function.stream.feed(part)
            await asyncio.sleep(0)
        function.stream.end({})
        return await reading

    assert asyncio.run(run()) == (prelude, payload, None)


@given(st.lists(st.integers(1, 100_000), max_size=30), st.integers(0, 30))
def test_the_function_is_held_while_much_waits(sizes: list[int], read_first: int) -> None:
    """More than 64 kB that nobody reads hold the function once; when they are read, it goes on; nothing is lost."""

    async def run() -> tuple[list[str], int]:
        function = Function("text/plain")
        stream, total = function.stream, 0
        for number, size in enumerate(sizes):
            stream.feed(b"x" * size)
            if number < read_first:
                total += len(await stream.piece())
        stream.end({})
        while piece := await stream.piece():
            total += len(piece)
        return function.asked, total

    asked, total = asyncio.run(run())
    assert total == sum(sizes)
    assert asked == ["pause", "resume"] * (len(asked) // 2)
    assert sum(sizes) <= 65_536 or read_first or "pause" in asked


@pytest.mark.parametrize(
    ("trailer", "text"),
    [
        (base64.b64encode(b'{"errorMessage": "the model broke", "errorType": "E"}').decode(), "the model broke"),
        (base64.b64encode(b"[1]").decode(), "[1]"),
        (base64.b64encode(b"plain").decode(), "plain"),
        ("not base64", "not base64"),
        ("", ""),
    ],
)
def test_an_error_in_the_trailers_comes_after_the_pieces(trailer: str, text: str) -> None:
    """The pieces before an error are read first; then its type and message are told, in whatever form they came."""

    async def run() -> tuple[Any, bytes, str | None]:
        stream = Function().stream
        stream.feed(b'{"statusCode": 200}' + SEPARATOR + b"before")
        stream.end({"lambda-runtime-function-error-type": "Runtime.E", "lambda-runtime-function-error-body": trailer})
        return await read(stream)

    assert asyncio.run(run()) == ({"statusCode": 200}, b"before", f"Runtime.E: {text}" if text else "Runtime.E")


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", "no separator after its prelude"),
        (b'{"statusCode": 200}' + SEPARATOR[1:], "no separator after its prelude"),
        (b"{" + SEPARATOR, "the prelude is not JSON"),
        (b"x" * (PRELUDE_LIMIT + 1), f"no separator in the first {PRELUDE_LIMIT} bytes"),
    ],
)
def test_a_prelude_that_is_none_is_told(sent: bytes, problem: str) -> None:
    """A stream without a prelude that can be read is an error, before any piece."""

    async def run() -> tuple[Any, bytes, str | None]:
        stream = Function().stream
        stream.feed(sent)
        stream.end({})
        return await read(stream)

    assert problem in str(asyncio.run(run())[2])


def test_a_reader_that_goes_away_ends_the_function_once() -> None:
    """Closing drops the function's connection while it writes, and does nothing after its end."""

    async def run(*, ended: bool) -> list[str]:
        function = Function("text/plain")
        function.stream.feed(b"x")
        if ended:
            function.stream.end({})
        function.stream.close()
        function.stream.close()
        function.stream.feed(b"late")
        return function.asked

    assert asyncio.run(run(ended=False)) == ["drop"]
    assert asyncio.run(run(ended=True)) == []
