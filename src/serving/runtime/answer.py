"""What the handler returns for an answer that goes out in pieces."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol


class Pieces(Iterator[bytes], Protocol):
    """The body's pieces. They are read to their end, or closed with the reason."""

    def close(self, reason: str = ..., /) -> None:
        """End the answer here."""
        ...


class StreamedAnswer(bytes):
    """An answer whose body goes out in pieces.

    It is a `bytes` object since Lambda's runtime client passes such objects from the handler to the Runtime API as they
    are, and writes any other object as JSON. As bytes it is empty.

    Attributes:
        prelude: status and headers, as JSON.
        pieces: the body.
        seconds_left: gives the seconds that remain for sending it.
    """

    prelude: bytes
    pieces: Pieces
    seconds_left: Callable[[], float]

    @classmethod
    def of(
        cls, status: int, headers: Mapping[str, str], pieces: Pieces, seconds_left: Callable[[], float]
    ) -> "StreamedAnswer":
        """An answer with this status, these headers and this body."""
        made = cls()
        # API Gateway and function URLs read these names ("Lambda proxy integration format for response streaming").
        made.prelude = json.dumps(
            {"statusCode": status, "headers": dict(headers), "cookies": []}, separators=(",", ":")
        ).encode()
        made.pieces, made.seconds_left = pieces, seconds_left
        return made


class OnePiece:
    """The pieces of a whole answer: its body, if it has one."""

    def __init__(self, body: bytes) -> None:
        self._pieces = iter((body,) if body else ())

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self, _reason: str = "") -> None:
        """Nothing waits for the end."""
        self._pieces = iter(())
