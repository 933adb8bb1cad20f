"""Turns texts into vectors with the exported encoder.

`config.py`, `schema.py` and `wordpiece.py` beside this file are the example's own (examples/embeddings).
"""

from pathlib import Path
from typing import Any, Self

import numpy as np

from .config import VOCABULARY_FILE, Config, read_config
from .onnx_session import open_session
from .schema import Request, Response
from .wordpiece import WordPiece

# As in the example.
BATCH, DIGITS = 16, 6


class Model:
    """A loaded release: `model.json`, `vocab.txt` and `network.onnx`."""

    def __init__(self, config: Config, tokenizer: WordPiece, session: Any) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._session = session

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load a release folder."""
        session = open_session(release)
        return cls(read_config(release), WordPiece.read(release / VOCABULARY_FILE), session)

    def predict(self, requests: list[Request]) -> list[Response]:
        """Embed the texts of a batch of requests."""
        rows = iter(self._embed([text for request in requests for text in request.texts]).tolist())
        return [Response([next(rows) for _ in request.texts]) for request in requests]

    def example(self) -> Request:
        """The example's own request."""
        return Request(texts=["A man is eating food.", "A man eats a piece of bread."])

    def _embed(self, texts: list[str]) -> Any:
        """(texts, hidden), float64, rounded."""
        numbers = [self._tokenizer.encode(text, self._config.max_tokens) for text in texts]
        vectors = np.empty((len(texts), self._config.hidden), np.float64)
        order = sorted(range(len(texts)), key=lambda index: len(numbers[index]))
        for start in range(0, len(order), BATCH):
            together = order[start : start + BATCH]
            longest = max(len(numbers[index]) for index in together)
            padded = np.full((len(together), longest), self._tokenizer.padding, np.int64)
            visible = np.zeros((len(together), longest), np.bool_)
            for row, index in enumerate(together):
                padded[row, : len(numbers[index])] = numbers[index]
                visible[row, : len(numbers[index])] = True
            (vectors[together],) = self._session.run(None, {"numbers": padded, "visible": visible})
        return vectors.round(DIGITS)
