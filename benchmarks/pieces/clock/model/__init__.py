"""A model whose pieces say when they were made."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel


class Request(BaseModel):
    """How many pieces, and how many seconds between two."""

    pieces: int = 10
    pause: float = 0.01


class Response(BaseModel):
    """Times."""

    made: list[float]


class Moment(BaseModel):
    """When this piece was made, in nanoseconds since 1970."""

    made: int


class Model:
    """Needs no weights."""

    @classmethod
    def load(cls, _release: Path) -> Self:
        """Nothing is read."""
        return cls()

    def predict(self, requests: list[Request]) -> list[Response]:
        """No pieces."""
        return [Response(made=[]) for _ in requests]

    def stream(self, request: Request) -> Iterator[Moment]:
        """A piece after each pause."""
        for _ in range(request.pieces):
            time.sleep(request.pause)
            yield Moment(made=time.time_ns())

    def example(self) -> Request:
        """A short answer."""
        return Request(pieces=1)
