"""Sequences of tokens that the network has read, kept so that a next request need not read their beginning again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .cache import Cache
from .network import Network
from .step import Step

# Sequences that are kept when nobody uses them: each takes memory for its keys and values.
KEPT = 2


class Sequence:
    """What one answer is written on. Not for several threads at a time."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._cache = Cache(network.config)
        self._step = Step(network, self._cache)
        self.tokens: list[int] = []

    def shared(self, prompt: list[int]) -> int:
        """How many tokens at the beginning are those of the prompt."""
        for place, (one, other) in enumerate(zip(self.tokens, prompt, strict=False)):
            if one != other:
                return place
        return min(len(self.tokens), len(prompt))

    def keep(self, tokens: int) -> None:
        """Forget all but the first tokens."""
        del self.tokens[tokens:]
        self._cache.length = tokens

    @torch.inference_mode()
    def read(self, tokens: list[int]) -> Tensor:
        """Continue by these tokens, at least one; the state after the last one (see `Network.forward`)."""
        state: Tensor = self._step(tokens[0]) if len(tokens) == 1 else self._network(torch.tensor(tokens), self._cache)
        self.tokens += tokens
        return state


class Sequences:
    """Lends sequences: the one whose beginning is that of the prompt for the longest part, or else a new one.

    A lent sequence is nobody else's, so answers may be written side by side, by one thread or by several.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._free: list[Sequence] = []
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, prompt: list[int]) -> Iterator[Sequence]:
        """A sequence that holds a part of the prompt, but never its last token: its state must be computed.

        After an error the sequence is not kept, for it may have been left in the middle of a step.
        """
        with self._lock:
            shared = [each.shared(prompt) for each in self._free]
            sequence = self._free.pop(shared.index(max(shared))) if shared else None
        if sequence is None:
            sequence = Sequence(self._network)
        sequence.keep(min(sequence.shared(prompt), len(prompt) - 1))
        try:
            yield sequence
        except GeneratorExit:
            self._give_back(sequence)
            raise
        self._give_back(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        with self._lock:
            self._free.append(sequence)
            # The one that was used longest ago goes.
            del self._free[:-KEPT]
