"""The keys and values of the tokens that a network has seen, so that a next token costs one token's work."""

import torch
from torch import Tensor

from .config import Config

FIRST_ROOM = 256


class Cache:
    """One sequence's keys and values, float32. It grows as the sequence does.

    Attributes:
        length: tokens that it holds. Setting it to less forgets the rest.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.length = 0
        self._make(FIRST_ROOM)

    @property
    def room(self) -> int:
        """Tokens that it can hold without growing."""
        return self.heads.shape[2]

    def _make(self, room: int) -> None:
        config = self._config
        # (layers, key heads and then value heads, tokens, head_size)
        self.heads = torch.empty(config.layers, 2 * config.key_value_heads, room, config.head_size)
        self.rotation = _rotation(config, room)

    def room_for(self, tokens: int) -> Tensor:
        """Make room for more tokens; the rotation of the places that they will have, (tokens, 1, head_size / 2), complex64."""
        end = self.length + tokens
        if end > self.room:
            old = self.heads
            room = self.room
            while room < end:
                room *= 2
            self._make(min(room, max(end, self._config.context)))
            self.heads[:, :, : self.length] = old[:, :, : self.length]
        return self.rotation[self.length : end].unsqueeze(1)

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's keys and values, (tokens, heads, head_size) each; all of them, (heads, all tokens, head_size) each.

        There must be room: `room_for`. The length stays, since the other layers' keys and values are still to come.
        """
        count, start, end = self._config.key_value_heads, self.length, self.length + len(key)
        keys, values = self.heads[layer, :count], self.heads[layer, count:]
        keys[:, start:end] = key.transpose(0, 1)
        values[:, start:end] = value.transpose(0, 1)
        return keys[:, :end], values[:, :end]


def _rotation(config: Config, places: int) -> Tensor:
    """The rotary embedding: (places, head_size / 2), complex64, of length 1; each pair of numbers turns at its own speed."""
    speeds = config.rope_base ** (-torch.arange(0, config.head_size, 2).double() / config.head_size)
    angles = torch.outer(torch.arange(places).double(), speeds)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
