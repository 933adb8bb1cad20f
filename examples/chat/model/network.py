"""The network: a decoder of the llama family, for many tokens at a time. `step.py` has the quick way for one token.

Each layer adds two things to the states: what grouped-query attention gathers from earlier tokens, and a gated feed-forward
part (SwiGLU). The states, the norms, the rotation and the attention are float32; only the linear layers may be of another type.
Query, key and value are one linear layer, and so are gate and up.

Sources: Touvron et al., https://arxiv.org/abs/2302.13971 (the whole); Zhang and Sennrich, https://arxiv.org/abs/1910.07467 (RMS
norm); Su et al., https://arxiv.org/abs/2104.09864 (rotary embedding); Ainslie et al., https://arxiv.org/abs/2305.13245 (grouped
queries); Shazeer, https://arxiv.org/abs/2002.05202 (SwiGLU).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .cache import Cache
from .config import Config
from .linear import AnyLinear, FloatRows, read_linear, read_rows
from .weights import Weights

# A token's score is corrected from the exact rows for the best of the quick scores (see `Output`).
EXACT = 16


class Norm(nn.Module):
    """The weight of an RMS norm, float32."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, states: Tensor, epsilon: float) -> Tensor:
        """Each row, divided by the root of its mean square, times the weight."""
        return torch.rms_norm(states, self.weight.shape, self.weight, epsilon)


class Layer(nn.Module):
    """Attention and a feed-forward part, each with a norm before it and a residual connection around it."""

    def __init__(self, config: Config, weights: Weights, name: str) -> None:
        super().__init__()

        def part(part_name: str, inputs: int, outputs: int) -> AnyLinear:
            return read_linear(weights, f"{name}.{part_name}", inputs, outputs, config.weights)

        self.config = config
        self.attention_norm = Norm(weights.take(f"{name}.attention_norm.weight", config.hidden))
        self.query_key_value = part("query_key_value", config.hidden, config.fused_size)
        self.attention_out = part("attention_out", config.query_size, config.hidden)
        self.feed_norm = Norm(weights.take(f"{name}.feed_norm.weight", config.hidden))
        self.gate_up = part("gate_up", config.hidden, 2 * config.intermediate)
        self.down = part("down", config.intermediate, config.hidden)

    def forward(self, states: Tensor, cache: Cache, layer: int, rotation: Tensor) -> Tensor:
        """One layer.

        Args:
            states: (tokens, hidden), float32.
            cache: holds the earlier tokens' keys and values; gets these tokens' ones.
            layer: the layer's number in the cache.
            rotation: (tokens, 1, head_size / 2), complex64.
        """
        config, tokens, dtype = self.config, len(states), self.query_key_value.dtype
        normed = self.attention_norm(states, config.rms_norm_epsilon).to(dtype)
        heads = self.query_key_value(normed).float().view(tokens, -1, config.head_size)
        turned, value = heads.split((config.heads + config.key_value_heads, config.key_value_heads), dim=1)
        pairs = torch.view_as_complex(turned.unflatten(-1, (-1, 2)).contiguous()) * rotation
        query, key = torch.view_as_real(pairs).flatten(-2).split((config.heads, config.key_value_heads), dim=1)
        mixed = self._attend(query, *cache.extended(layer, key, value))
        states = states + self.attention_out(mixed.to(dtype)).float()
        gate, up = self.gate_up(self.feed_norm(states, config.rms_norm_epsilon).to(dtype)).float().chunk(2, dim=1)
        fed: Tensor = self.down(functional.silu(gate).mul_(up).to(dtype))
        return states + fed.float()

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(tokens, heads * head_size) from query (tokens, heads, head_size) and all keys and values (heads, tokens, size)."""
        tokens, total = len(query), keys.shape[1]
        # Each token sees those before it and itself. A mask is needed where there are earlier tokens than these.
        visible = None
        if 1 < tokens < total:
            visible = torch.ones(tokens, total, dtype=torch.bool).tril(total - tokens)
        mixed = functional.scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=visible,
            is_causal=1 < tokens == total,
            enable_gqa=self.config.heads != self.config.key_value_heads,
        )
        return mixed[0].transpose(0, 1).reshape(tokens, -1)


class Network(nn.Module):
    """Token numbers to one score a token of the vocabulary.

    Args:
        config: its sizes.
        weights: its tensors; all that are there must be its own.

    Raises:
        ValueError: as `Weights.take` does.
    """

    def __init__(self, config: Config, weights: Weights) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config, weights, f"layers.{layer}") for layer in range(config.layers))
        self.norm = Norm(weights.take("norm.weight", config.hidden))
        self.embedding = read_rows(weights, "embedding", config.vocabulary, config.hidden, config.weights)
        # The rows that score the tokens.
        self.output = (
            self.embedding
            if config.tied
            else read_rows(weights, "output", config.vocabulary, config.hidden, config.weights)
        )
        if config.weights in ("int4", "int8"):
            # The output layer in the form of torch's 8-bit kernel, which is quick and not exact.
            self.quick_output = read_linear(weights, "quick_output", config.hidden, config.vocabulary, "int8")

    def forward(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Continue the sequence in the cache.

        Args:
            tokens: (tokens,), int64, at least one.
            cache: what came before; grows by these tokens.

        Returns:
            The last token's state after the last layer and norm, (1, hidden), float32: see `scores`.
        """
        rotation = cache.room_for(len(tokens))
        states: Tensor = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            states = layer(states, cache, number, rotation)
        cache.length += len(tokens)
        last: Tensor = self.norm(states[-1:], self.config.rms_norm_epsilon)
        return last

    def scores(self, state: Tensor) -> Tensor:
        """The next token's scores (logits), (vocabulary,), float32, from a state (1, hidden).

        Quantised releases have two forms of the output layer. The quick one scores all tokens. Then the exact one scores the best
        of them again. So quantising twice cannot change which of them is first.
        """
        if isinstance(self.output, FloatRows):
            return functional.linear(state.to(self.output.weight.dtype), self.output.weight)[0].float()
        scores: Tensor = self.quick_output(state.bfloat16())[0].float()
        best = scores.topk(min(EXACT, len(scores))).indices
        scores[best] = torch.mv(self.output(best), state[0])
        return scores
