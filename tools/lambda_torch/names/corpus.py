"""Names as padded tensors, split into what is learned and what is held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

# Targets with this value count for nothing (the default of torch's nll_loss).
PADDING = -100
# One name in so many is held out, and at least one of each category.
HELD_OUT_SHARE = 10


@dataclass(frozen=True, slots=True)
class Corpus:
    """Names, padded at the right to the longest.

    Attributes:
        categories: (names,), each name's category by index.
        letters: (names, longest), each name's letters by index; what follows a name's last letter is never looked at.
        targets: (names, longest), for each letter the one that follows it, the end marker after the last, then PADDING.
    """

    categories: Tensor
    letters: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.categories)

    @classmethod
    def encode(cls, names: Mapping[str, Sequence[str]], letters: str) -> Self:
        """Category to names, as indices; a category's index is its place in the mapping."""
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
        """(what is learned, what is held out), drawn category by category."""
        learned, held_out = [], []
        for category in self.categories.unique():
            rows = torch.nonzero(self.categories == category).flatten()
            rows = rows[torch.randperm(len(rows), generator=generator)]
            count = max(1, len(rows) // HELD_OUT_SHARE)
            held_out.append(rows[:count])
            learned.append(rows[count:])
        return self.take(torch.cat(learned)), self.take(torch.cat(held_out))

    def weights(self) -> Tensor:
        """How often each name is drawn, (names,): a category counts as the square root of its size.

        Drawn evenly, a category of fifty names would be drowned by one of four thousand; drawn category by category, as
        the tutorial does, it would be learned by heart.
        """
        return self.categories.bincount()[self.categories].float().rsqrt()


def letter_frequency_loss(learned: Corpus, held_out: Corpus, symbols: int) -> float:
    """What guessing by letter frequencies alone costs: nats per letter of the held-out names, end markers included."""
    counts = learned.targets[learned.targets != PADDING].bincount(minlength=symbols) + 1.0
    expected = held_out.targets[held_out.targets != PADDING]
    return functional.nll_loss((counts / counts.sum()).log().expand(len(expected), -1), expected).item()
