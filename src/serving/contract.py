"""What the serving side needs from `src/model`.

This is the whole interface between the two; it knows nothing about names.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel


class ServedModel(Protocol):
    """A model that can serve.

    Its methods `check`, `stream`, `example` and `hints` are optional; docs/your-own-model.md describes them.
    """

    def predict(self, requests: list[Any], /) -> Sequence[BaseModel]:
        """Answer a batch: one response for each request, in the same order."""
        ...


# What a package may be: its name `TASK`. It decides about the routes for OpenAI's clients, and is the model's name there.
Task = Literal["chat", "embeddings"]


class CountsOfTokens(Protocol):
    """How many tokens a request took."""

    @property
    def prompt_tokens(self) -> int:
        """Those of the prompt."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Those of the answer."""
        ...

    @property
    def total_tokens(self) -> int:
        """Their sum."""
        ...


class ChatPiece(Protocol):
    """A piece of an answer of the task `chat`. The last one has a reason, `stop`, `length` or `deadline`, and counts."""

    @property
    def text(self) -> str:
        """What the piece adds to the answer."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ends; None before the last piece."""
        ...

    @property
    def usage(self) -> CountsOfTokens | None:
        """How many tokens the request took; None before the last piece."""
        ...


class ChatModel(ServedModel, Protocol):
    """A model of the task `chat`. Its request has the field `messages`, and those of OpenAI's names that it can follow."""

    def stream(self, request: Any, /, deadline: Callable[[], float] | None = None) -> Iterator[ChatPiece]:
        """Answer one request in pieces."""
        ...


class EmbeddingsModel(ServedModel, Protocol):
    """A model of the task `embeddings`. Its request has the field `texts`, and its response's root is a list of vectors."""

    def count_tokens(self, request: Any, /) -> int:
        """How many tokens the model reads of a request."""
        ...


class ModelClass(Protocol):
    """The class that `src/model` exports as `Model`."""

    def load(self, release: Path, /) -> ServedModel:
        """Build the model from an unpacked, verified release folder.

        Raises ValueError with the reason if it does not fit.
        """
        ...


class ModelPackage(Protocol):
    """The package `src/model` itself, with the three names that it exports. A fourth one is optional: `TASK`, a `Task`."""

    @property
    def Model(self) -> ModelClass:  # noqa: N802 (the name of a class)
        """The class that loads releases."""
        ...

    @property
    def Request(self) -> type[BaseModel]:  # noqa: N802
        """The type of one request."""
        ...

    @property
    def Response(self) -> type[BaseModel]:  # noqa: N802
        """The type of one response."""
        ...
