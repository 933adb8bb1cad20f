"""Decodes names with the exported network, one step after another, for all start letters together."""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np

from model.onnx_session import open_session
from model.schema import Request, Response


class Model:
    """A loaded release: `model.json` and `network.onnx`."""

    def __init__(self, config: dict[str, Any], session: Any) -> None:
        self._config = config
        self._session = session
        self._hidden = config["architecture"]["hidden_size"]

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load a release folder."""
        session = open_session(release)
        return cls(json.loads((release / "model.json").read_text()), session)

    def predict(self, requests: list[Request]) -> list[Response]:
        """Greedy names for a batch of requests."""
        return [Response(self._names(each)) for each in requests]

    def example(self) -> Request:
        """Three names of the first category."""
        letters = [letter for letter in self._config["letters"] if letter.isupper()]
        return Request(category=self._config["categories"][0], start_letters="".join(letters[:3]))

    def _names(self, request: Request) -> list[str]:
        letters, rows = self._config["letters"], len(request.start_letters)
        end = len(letters)
        category = np.zeros((rows, len(self._config["categories"])), np.float32)
        category[:, self._config["categories"].index(request.category)] = 1
        hidden = np.zeros((rows, self._hidden), np.float32)
        chosen = np.array([letters.index(letter) for letter in request.start_letters])
        names, open_rows = list(request.start_letters), set(range(rows))
        for _ in range(self._config["max_length"]):
            letter = np.zeros((rows, end + 1), np.float32)
            letter[np.arange(rows), chosen] = 1
            scores, hidden = self._session.run(None, {"category": category, "letter": letter, "hidden": hidden})
            chosen = scores.argmax(1)
            open_rows -= {row for row in open_rows if chosen[row] == end}
            for row in open_rows:
                names[row] += letters[chosen[row]]
            if not open_rows:
                break
        return names
