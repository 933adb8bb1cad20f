"""The model behind the endpoint: a release folder, loaded once, that turns requests into names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import JsonValue
from pydantic_core import PydanticCustomError
from torch import Tensor

from model.config import Config, read_config
from model.decoding import Decoder, gumbel_noise
from model.schema import Request, Response
from model.weights import read_weights

# Names that are decoded at a time. Of more names than fit into a core's cache, each one takes longer
# (`python -m benchmarks.decoding`).
ROWS = 600
# How many characters of a client's own text an error repeats.
ECHO = 40
# The characters that a character class of a regular expression must escape (ECMA-262, "ClassEscape").
SPECIAL_IN_CLASS = "\\]^-"


class Model:
    """A loaded release. It holds no state between calls, so calls may come from several threads."""

    def __init__(self, config: Config, decoder: Decoder) -> None:
        self.config = config
        self._decoder = decoder
        self._categories = {name: index for index, name in enumerate(config.categories)}
        self._letters = {letter: index for index, letter in enumerate(config.letters)}

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load the release folder: `model.json` and `weights.safetensors`.

        Raises:
            ValueError: a file is missing, broken, or disagrees with the other; the message says which and how.
        """
        config = read_config(release)
        return cls(config, Decoder.fold(read_weights(release, config)))

    @property
    def metrics(self) -> dict[str, float]:
        """The training figures that are numbers, for the release's manifest."""
        numbers = {name: value for name, value in self.config.training.items() if isinstance(value, int | float)}
        return {name: float(value) for name, value in numbers.items() if not isinstance(value, bool)}

    def check(self, request: Request) -> None:
        """Refuse a request that this release cannot answer.

        Raises:
            PydanticCustomError: of type unknown_category, empty_start_letters, too_many_start_letters or
                unknown_letters. Its context has what a client needs to correct the request.
        """
        config = self.config
        if request.category not in self._categories:
            raise PydanticCustomError(
                "unknown_category",
                # The client's text is a value and no part of the template, since it may have braces.
                f"Unknown category '{{category}}'; this release knows {', '.join(config.categories)}",
                {"categories": config.categories, "category": _shortened(request.category)},
            )
        count, limit = len(request.start_letters), config.max_start_letters
        if count == 0:
            raise PydanticCustomError(
                "empty_start_letters", "start_letters is empty: give one letter for each name, for example 'ABC'"
            )
        if count > limit:
            raise PydanticCustomError(
                "too_many_start_letters",
                "start_letters has {count} letters; at most {limit} are allowed",
                {"count": count, "limit": limit},
            )
        unknown = [letter for letter in dict.fromkeys(request.start_letters) if letter not in self._letters]
        if unknown:
            raise PydanticCustomError(
                "unknown_letters",
                "start_letters has letters that this release does not know: {unknown}. It knows {letters}",
                {"unknown": "".join(unknown), "letters": config.letters},
            )

    def predict(self, requests: list[Request]) -> list[Response]:
        """Write the names of a batch of requests that `check` accepted.

        The start letters of all requests are decoded together. A request's names depend on the request alone: each
        draws from its own generator.
        """
        categories = [self._categories[each.category] for each in requests for _ in each.start_letters]
        letters = [self._letters[letter] for each in requests for letter in each.start_letters]
        if not letters:
            return [Response([]) for _ in requests]
        noise = self._noise(requests)
        endings: list[list[int]] = []
        for rows in (slice(first, first + ROWS) for first in range(0, len(letters), ROWS)):
            part = noise if noise is None else noise[rows]
            endings += self._decoder.decode(categories[rows], letters[rows], self.config.max_length, part)
        names = self._spelt(letters, endings)
        return [Response([next(names) for _ in each.start_letters]) for each in requests]

    def example(self) -> Request:
        """A valid request for this release, for a warm-up or a demonstration: three names of the first category."""
        letters = [letter for letter in self.config.letters if letter.isupper()] or list(self.config.letters)
        count = min(3, self.config.max_start_letters)
        return Request(category=self.config.categories[0], start_letters="".join(letters[:count]))

    def hints(self) -> dict[str, dict[str, JsonValue]]:
        """What only this release knows about the request's fields: its categories and letters, as JSON Schema keywords."""
        letters = "".join(f"\\{letter}" if letter in SPECIAL_IN_CLASS else letter for letter in self.config.letters)
        return {
            "category": {"enum": list(self.config.categories)},
            "start_letters": {"minLength": 1, "maxLength": self.config.max_start_letters, "pattern": f"^[{letters}]+$"},
        }

    def _noise(self, requests: Sequence[Request]) -> Tensor | None:
        """What `Decoder.decode` adds to the logits of each row; None if no request of the batch draws letters."""
        if all(each.temperature is None for each in requests):
            return None
        steps, symbols = self.config.max_length, self.config.end + 1
        parts = []
        for each in requests:
            rows = len(each.start_letters)
            if each.temperature is None:
                parts.append(torch.zeros(rows, steps, symbols))
            else:
                parts.append(gumbel_noise(rows, steps, symbols, each.temperature, _generator(each.seed)))
        return torch.cat(parts)

    def _spelt(self, letters: Sequence[int], endings: Sequence[Sequence[int]]) -> Iterator[str]:
        alphabet = self.config.letters
        for letter, ending in zip(letters, endings, strict=True):
            yield alphabet[letter] + "".join([alphabet[each] for each in ending])


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        # From the system's entropy, not from torch's own state: copies of one memory snapshot must not draw the same.
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _shortened(text: str) -> str:
    return text if len(text) <= ECHO else text[:ECHO] + "..."
