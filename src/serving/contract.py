"""What the serving side needs from `src/model`.

This is the whole interface between the two; it knows nothing about names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel


class ServedModel(Protocol):
    """A model that can serve.

    Its methods `check`, `stream`, `example` and `hints` are optional; docs/your-own-model.md describes them.
    """

    def predict(self, requests: list[Any], /) -> Sequence[BaseModel]:
        """Answer a batch: one response for each request, in the same order."""
        ...


class ModelClass(Protocol):
    """The class that `src/model` exports as `Model`."""

    def load(self, release: Path, /) -> ServedModel:
        """Build the model from an unpacked, verified release folder.

        Raises ValueError with the reason if it does not fit.
        """
        ...


class ModelPackage(Protocol):
    """The package `src/model` itself, with the three names that it exports."""

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
