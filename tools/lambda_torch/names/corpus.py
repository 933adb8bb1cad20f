"""Names as padded tensors, split into names to learn and names that are held out for the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

# The loss ignores targets with this value (the default of torch's nll_loss).
PADDING = -100
# One name in ten is held out, and at least one of each category.
HELD_OUT_SHARE = 10


@dataclass(frozen=True, slots=True)
class Corpus:
    """Names, padded on the right to the longest.

    Attributes:
        categories: (names,), the index of each name's category.
        letters: (names, longest), the indices of each name's letters. Values after the last letter are not used.
        targets: (names, longest), the letter after each letter, the end marker after the last one, then PADDING.
    """

    categories: Tensor
    letters: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.categories)

    @classmethod
    def encode(cls, names: Mapping[str, Sequence[str]], letters: str) -> Self:
        """Make a corpus of a mapping from category to names. The index of a category is its position in the mapping."""
        end = len(letters)
        index = {letter: place for place, letter in enumerate(letters)}
        rows = [(category, [index[c] for c in name]) for category, each in enumerate(names.values()) for name in each]
        longest = max(len(row) for _, row in rows)
        return cls(
            torch.tensor([category for category, _ in rows]),
            torch.tensor([row + [end] * (longest - len(row)) for _, row in rows]),
            torch.tensor([[*row[1:], end] + [PADDING] * (longest - len(row)) for _, row in rows]),
        )

    def take(self, rows: Tensor) -> Self:
        """These names (1-D indices), padded no further than the longest of them."""
        targets = self.targets[rows]
        longest = int((targets != PADDING).sum(1).max())
        return type(self)(self.categories[rows], self.letters[rows, :longest], targets[:, :longest])

    def split(self, generator: torch.Generator) -> tuple[Self, Self]:
        """(names to learn, names that are held out), drawn for each category."""
        learned, held_out = [], []
        for category in self.categories.unique():
            rows = torch.nonzero(self.categories == category).flatten()
            rows = rows[torch.randperm(len(rows), generator=generator)]
            count = max(1, len(rows) // HELD_OUT_SHARE)
            held_out.append(rows[:count])
            learned.append(rows[count:])
        return self.take(torch.cat(learned)), self.take(torch.cat(held_out))

    def weights(self) -> Tensor:
        """The weight of each name in the draw, (names,). The weight of a category is the square root of its size.

        With equal weights for names, a category of 50 names would hardly count beside one of 4,000. With equal weights
        for categories, as in the tutorial, the model would learn the small one by heart.
        """
        return self.categories.bincount()[self.categories].float().rsqrt()


def letter_frequency_loss(learned: Corpus, held_out: Corpus, symbols: int) -> float:
    """The loss of a guess by letter frequencies alone: nats for each letter of the held-out names, with end markers."""
    counts = learned.targets[learned.targets != PADDING].bincount(minlength=symbols) + 1.0
    expected = held_out.targets[held_out.targets != PADDING]
    return functional.nll_loss((counts / counts.sum()).log().expand(len(expected), -1), expected).item()
