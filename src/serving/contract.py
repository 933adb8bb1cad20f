"""What the serving side asks of `src/model`: the whole interface between the two, and nothing about names or networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel


class ServedModel(Protocol):
    """A model that can be served. `check`, `example` and `hints` are optional; see `docs/` and the shipped `src/model`."""

    def predict(self, requests: list[Any], /) -> Sequence[BaseModel]:
        """Answer a batch, one response a request, in order."""
        ...


class ModelClass(Protocol):
    """The class that `src/model` exports as `Model`."""

    def load(self, release: Path, /) -> ServedModel:
        """Build the model from an unpacked, verified release folder. Raises ValueError with the reason if it does not fit."""
        ...
