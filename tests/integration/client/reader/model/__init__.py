"""A model with a file in its request, and answers in pieces: for the tests of clients. It needs no torch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from serving.types import File


class Request(BaseModel):
    """What to read aloud.

    Attributes:
        again: how often the words are said.
        diary: a file in which the model writes what happens to it.
    """

    words: list[str]
    paper: File | None = None
    again: int = 1
    diary: str = ""


class Word(BaseModel):
    """A piece."""

    text: str


class Response(BaseModel):
    """The whole answer."""

    text: str
    size: int | None = None


class Model:
    """Says the words of a request."""

    @classmethod
    def load(cls, release: Path) -> Self:
        """No release is needed."""
        return cls()

    def check(self, request: Request) -> None:
        """Refuses the word `never`."""
        if "never" in request.words:
            raise PydanticCustomError("not_said", "The model does not say {word}", {"word": "never"})

    def predict(self, requests: list[Request]) -> list[Response]:
        """All words at once."""
        if any("defect" in each.words for each in requests):
            raise RuntimeError("the model broke")
        return [
            Response(text=" ".join(each.words * each.again), size=None if each.paper is None else len(each.paper.data))
            for each in requests
        ]

    def stream(self, request: Request, deadline: Callable[[], float]) -> Iterator[Word]:
        """The words, one by one."""
        try:
            for _ in range(request.again):
                for word in request.words:
                    if word == "defect":
                        raise RuntimeError("the model broke")
                    if deadline() < 0.5:
                        return
                    yield Word(text=word)
        except GeneratorExit:
            Path(request.diary).write_text("closed")
            raise
