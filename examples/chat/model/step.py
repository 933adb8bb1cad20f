"""The quick way for one token: the same arithmetic as `network.py`, with few operators and no memory to ask for.

At one token, a small network's time goes into starting operators rather than into arithmetic. So all buffers and their views are
made once. A step of a layer takes some twenty operators, most of them into a buffer that is there. What differs:

    RMS norm    the states have one more number, whose square is epsilon * hidden. So the vector's norm has the epsilon in it.
    rotation    it is one product of complex numbers; the value's heads are turned by 1, that is, not at all.
    attention   the query heads that share a key head are taken for that many tokens, so no key or value is repeated.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .cache import Cache
from .config import GROUP
from .linear import AnyLinear, Int4Linear, Int8Linear
from .network import Layer, Network


class Step:
    """Runs a network for one token at a time on one cache. Not for several threads at a time.

    Args:
        network: a network with its weights.
        cache: the sequence to continue.
    """

    def __init__(self, network: Network, cache: Cache) -> None:
        config = network.config
        self._network = network
        self._cache = cache
        self._states = torch.empty(1, config.hidden + 1)
        self._states[0, -1] = (config.rms_norm_epsilon * config.hidden) ** 0.5
        self._normed = torch.empty(1, config.hidden)
        self._heads = torch.empty(config.fused_size // config.head_size, config.head_size)
        self._turned = torch.empty_like(self._heads)
        self._feed = torch.empty(1, 2 * config.intermediate)
        layers = [layer for layer in network.layers if isinstance(layer, Layer)]
        dtype = layers[0].query_key_value.dtype
        self._linear_normed = torch.empty(1, config.hidden, dtype=dtype)
        self._linear_mixed = torch.empty(1, config.query_size, dtype=dtype)
        self._linear_feed = torch.empty(1, config.intermediate, dtype=dtype)
        self._rotation = torch.ones(len(self._heads), config.head_size // 2, dtype=torch.complex64)
        scale = config.hidden**0.5
        self._layers = [
            (
                layer.attention_norm.weight * scale,
                operator(layer.query_key_value),
                operator(layer.attention_out),
                layer.feed_norm.weight * scale,
                operator(layer.gate_up),
                operator(layer.down),
            )
            for layer in layers
        ]
        self._last_norm = network.norm.weight * scale

    @torch.inference_mode()
    def __call__(self, token: int) -> Tensor:
        """Continue by one token; the last state as `Network.forward` gives it, valid until the next call."""
        config, cache = self._network.config, self._cache
        turning = config.heads + config.key_value_heads
        self._rotation[:turning] = cache.room_for(1)[0]
        place, count = cache.length, config.key_value_heads
        now = cache.heads[:, None, :, : place + 1]
        all_keys, all_values = now[:, :, :count].unbind(0), now[:, :, count:].unbind(0)
        slots = cache.heads[:, :, place].unbind(0)

        states, normed, heads, turned, feed = self._states, self._normed, self._heads, self._turned, self._feed
        linear_normed, linear_mixed, linear_feed = self._linear_normed, self._linear_mixed, self._linear_feed
        residual = states[:, :-1]
        flat_heads = heads.view(1, -1)
        pairs, turned_pairs = (torch.view_as_complex(each.unflatten(1, (-1, 2))) for each in (heads, turned))
        query = turned[: config.heads].view(1, count, -1, config.head_size)
        new = turned[config.heads :]
        gate, up = feed.chunk(2, dim=1)
        mixed_heads = linear_mixed.view_as(query)
        length, multiply, divide, attend, silu = (
            torch.linalg.vector_norm,
            torch.mul,
            torch.div,
            functional.scaled_dot_product_attention,
            _silu_,
        )
        rotation = self._rotation

        residual.copy_(self._network.embedding(torch.tensor([token])))
        for (attention_norm, query_key_value, attention_out, feed_norm, gate_up, down), keys, values, slot in zip(
            self._layers, all_keys, all_values, slots, strict=True
        ):
            divide(multiply(residual, attention_norm, out=normed), length(states), out=linear_normed)
            flat_heads.copy_(query_key_value(linear_normed))
            multiply(pairs, rotation, out=turned_pairs)
            slot.copy_(new)
            mixed_heads.copy_(attend(query, keys, values))
            residual.add_(attention_out(linear_mixed))
            divide(multiply(residual, feed_norm, out=normed), length(states), out=linear_normed)
            feed.copy_(gate_up(linear_normed))
            multiply(silu(gate), up, out=linear_feed)
            residual.add_(down(linear_feed))
        cache.length += 1
        return multiply(residual, self._last_norm, out=normed).div_(length(states))


# Not torch.ops.aten.silu_: to look up a first operator there takes 7 ms of a cold start.
_silu_ = torch._C._nn.silu_


def operator(layer: AnyLinear) -> Callable[[Tensor], Tensor]:
    """The layer as a function of its input, without what the call of a module adds."""
    weight = layer.weight
    if isinstance(layer, Int4Linear):
        scale_zero, int4 = layer.scale_zero, torch._weight_int4pack_mm_for_cpu
        return lambda states: int4(states, weight, GROUP, scale_zero)
    if isinstance(layer, Int8Linear):
        scale, int8 = layer.scale, torch._weight_int8pack_mm
        return lambda states: int8(states, weight, scale)
    linear = functional.linear
    return lambda states: linear(states, weight)
