"""A model that answers in pieces, and that does what a request says: for the tests of streams. It needs no torch."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

# How long a piece waits for a test's permission. No test takes as long, unless it is about to fail.
PATIENCE_SECONDS = 60


class Request(BaseModel):
    """What to say, and how."""

    words: list[str]
    act: Literal["", "raise", "refuse", "exit", "mistype", "endless", "wait", "text", "surrogate", "list"] = ""
    at: int = 0
    every: float = 0.0
    size: int = 0
    diary: str = ""
    stream: bool = False


class Word(BaseModel):
    """A piece."""

    text: str
    finish_reason: str | None = None


class Response(BaseModel):
    """The whole answer."""

    text: str


class Model:
    """Says the words of a request."""

    @classmethod
    def load(cls, release: Path) -> Self:
        """No release is needed, but the text of one is what `predict` answers with where there are no words."""
        made = cls()
        made.release = (release / "data.txt").read_text()
        return made

    release = ""

    def check(self, request: Request) -> None:
        """Refuses the word `never`."""
        if "never" in request.words:
            raise PydanticCustomError("not_said", "The model does not say {word}", {"word": "never"})

    def predict(self, requests: list[Request]) -> list[Response]:
        """All words at once."""
        return [Response(text=" ".join(each.words) or self.release) for each in requests]

    def stream(self, request: Request, deadline: Callable[[], float] | None = None) -> Any:
        """The words, one by one."""
        if request.act == "list":
            return [Word(text=word) for word in request.words]
        assert deadline is not None
        return self._pieces(request, deadline)

    def _pieces(self, request: Request, deadline: Callable[[], float]) -> Iterator[Any]:
        diary = _Diary(request.diary)
        diary.write(f"release {self.release}")
        try:
            for index, word in enumerate(_endless(request) if request.act == "endless" else request.words):
                if request.at == index:
                    act(request, diary)
                diary.write(f"made {index}")
                time.sleep(request.every)
                yield _piece(request, index, word)
            diary.write(f"left {deadline():.0f}")
        except GeneratorExit:
            diary.write("closed")
            raise
        finally:
            diary.write("finally")


def act(request: Request, diary: "_Diary") -> None:
    """What a request wants before its piece number `at`."""
    match request.act:
        case "raise":
            raise RuntimeError("the model broke")
        case "refuse":
            raise PydanticCustomError("too_long", "The answer is too long", {})
        case "exit":
            sys.exit("the model left")
        case "wait":
            diary.wait()


def _endless(request: Request) -> Iterator[str]:
    while True:
        yield from request.words


def _piece(request: Request, index: int, word: str) -> Any:
    if request.act == "mistype" and index == request.at:
        return {"text": word}
    if request.act == "text":
        return word
    if request.act == "surrogate":
        return word + "\ud800"
    return Word(text=word + "." * request.size)


class _Diary:
    """What the model did, in a file that a test reads."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None

    def write(self, line: str) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(line + "\n")

    def wait(self) -> None:
        """Until the test has made a file beside the diary."""
        assert self._path is not None
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._path.with_suffix(".go").exists():
            if time.monotonic() > end:
                raise TimeoutError("nobody read the piece before this one")
            time.sleep(0.001)
