"""A model that answers in pieces and needs no torch: for what lies between a model and its clients."""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field


class Request(BaseModel):
    """How many pieces, of which size, and how fast."""

    pieces: int = Field(ge=0)
    every: float = 0.0
    size: int = 0


class Piece(BaseModel):
    """When it was made (nanoseconds of the system's clock), and something to carry."""

    made_ns: int
    text: str


class Response(BaseModel):
    """How many pieces there would be, and how many generators are open now."""

    pieces: int
    open: int


class Model:
    """Makes pieces."""

    open = 0

    @classmethod
    def load(cls, _release: Path) -> "Model":
        """Nothing to load."""
        return cls()

    def predict(self, requests: list[Request]) -> list[Response]:
        """Numbers only."""
        return [Response(pieces=each.pieces, open=self.open) for each in requests]

    def example(self) -> Request:
        """One piece."""
        return Request(pieces=1)

    def stream(self, request: Request) -> Iterator[Piece]:
        """The pieces, each with its time."""
        self.open += 1
        try:
            for _ in range(request.pieces):
                time.sleep(request.every)
                yield Piece(made_ns=time.time_ns(), text="x" * request.size)
        finally:
            self.open -= 1
