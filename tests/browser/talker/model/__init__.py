"""A model that answers in pieces, as fast and as far as a request says: for the page."""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field


class Request(BaseModel):
    """Say some words. They come one by one."""

    words: int = Field(description="How many words.")
    every: float = Field(0.0, description="Seconds before each word.")
    fail_at: int | None = None
    exit_at: int | None = None


class Piece(BaseModel):
    """One word."""

    text: str
    finish_reason: str | None = None


class Response(BaseModel):
    """All words."""

    text: str


class Model:
    """Counts."""

    @classmethod
    def load(cls, release: Path) -> "Model":
        """Nothing to load."""
        return cls()

    def predict(self, requests: list[Request]) -> list[Response]:
        """All words at once."""
        return [Response(text="".join(piece.text for piece in self.stream(each))) for each in requests]

    def example(self) -> Request:
        """Three words."""
        return Request(words=3)

    def stream(self, request: Request) -> Iterator[Piece]:
        """Word by word."""
        for number in range(request.words):
            # Before it fails too, so that a browser has handed over the piece before.
            time.sleep(request.every)
            if number == request.fail_at:
                raise RuntimeError("the model broke")
            if number == request.exit_at:
                raise SystemExit("the model left")
            yield Piece(text=f"word {number} <b>\n")
        yield Piece(text="", finish_reason="stop")
