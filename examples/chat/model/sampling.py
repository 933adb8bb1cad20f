"""Choosing the next token from the scores of all."""

import os
from random import Random

import torch
from torch import Tensor

# To sort the whole vocabulary takes longer than a layer of the network. The best of it mostly are enough.
CANDIDATES = 256


class Sampler:
    """Draws tokens, with random numbers of its own.

    Args:
        temperature: scores are divided by it; 0 takes the best token always.
        top_p: only the best tokens that together have this probability are drawn.
        seed: the same seed draws the same tokens from the same scores. None takes a seed from the operating system, so copies of
            one snapshot differ.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = Random(os.urandom(8) if seed is None else seed)  # noqa: S311 - for variety, not for secrets

    def choose(self, scores: Tensor) -> int:
        """A token's number, from the scores (logits) of all tokens, (vocabulary,), float32."""
        if self._temperature == 0:
            return int(scores.argmax())
        # Less the highest score, so that a small temperature gives no infinite score.
        probabilities = ((scores - scores.max()) / self._temperature).softmax(0)
        if self._top_p == 1:
            return self._draw(probabilities.double().cumsum(0))
        best, tokens = probabilities.topk(min(CANDIDATES, len(probabilities)))
        if best.sum() < self._top_p:
            best, tokens = probabilities.sort(descending=True)
        sums = best.double().cumsum(0)
        kept = int(torch.searchsorted(sums, self._top_p)) + 1
        return int(tokens[self._draw(sums[:kept])])

    def _draw(self, sums: Tensor) -> int:
        """A place, each as probable as its part of the running sums."""
        place = int(torch.searchsorted(sums, self._random.random() * float(sums[-1]), right=True))
        return min(place, len(sums) - 1)
