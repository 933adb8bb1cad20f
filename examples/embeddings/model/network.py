"""The encoder: BERT's transformer, mean pooling over the tokens, and vectors of length 1.

Sources: Devlin et al., https://arxiv.org/abs/1810.04805 (the encoder); Reimers and Gurevych, https://arxiv.org/abs/1908.10084
(the pooling). Token types are all 0 in a single sentence, so that row is part of the position table already; query, key and
value are one layer. There is no dropout: this network is only ever asked, never trained.
"""

from torch import Tensor, nn
from torch.nn import functional

from .config import Config


class _Unfilled:
    """Leaves weights as they are made: they come from the release."""

    def reset_parameters(self) -> None:
        """Do nothing."""


class Linear(_Unfilled, nn.Linear):
    """A linear layer whose weights come from the release."""


class LayerNorm(_Unfilled, nn.LayerNorm):
    """A LayerNorm whose weights come from the release."""


class Embedding(_Unfilled, nn.Embedding):
    """A table whose rows come from the release."""


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each with a residual connection and a LayerNorm after it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden, epsilon = config.hidden, config.layer_norm_epsilon
        self.heads = config.heads
        self.attention_in = Linear(hidden, 3 * hidden)
        self.attention_out = Linear(hidden, hidden)
        self.attention_norm = LayerNorm(hidden, epsilon)
        self.feed_in = Linear(hidden, config.intermediate)
        self.feed_out = Linear(config.intermediate, hidden)
        self.feed_norm = LayerNorm(hidden, epsilon)

    def forward(self, states: Tensor, visible: Tensor) -> Tensor:
        """One layer: states (texts, tokens, hidden), visible (texts, 1, 1, tokens) where a token is not padding."""
        texts, tokens, hidden = states.shape
        projected = self.attention_in(states).view(texts, tokens, 3, self.heads, hidden // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (texts, heads, tokens, hidden / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        mixed = mixed.transpose(1, 2).reshape(texts, tokens, hidden)
        states = self.attention_norm(states + self.attention_out(mixed))
        result: Tensor = self.feed_norm(states + self.feed_out(functional.gelu(self.feed_in(states))))
        return result


class Encoder(nn.Module):
    """Token numbers to one vector a text."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.words = Embedding(config.vocabulary, config.hidden)
        self.positions = Embedding(config.positions, config.hidden)
        self.norm = LayerNorm(config.hidden, config.layer_norm_epsilon)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, numbers: Tensor, visible: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            numbers: (texts, tokens), int64; shorter texts are padded.
            visible: (texts, tokens), bool: False where it is padding.

        Returns:
            (texts, hidden), float32, of length 1.
        """
        states = self.norm(self.words(numbers) + self.positions.weight[: numbers.shape[1]])
        for layer in self.layers:
            states = layer(states, visible[:, None, None, :])
        counted = visible.unsqueeze(-1).to(states.dtype)
        mean = (states * counted).sum(1) / counted.sum(1)
        return functional.normalize(mean, dim=1)


def empty_encoder(config: Config) -> Encoder:
    """An encoder whose weights are not set, to be filled with `load_state_dict(..., assign=True)`.

    Memory that nothing has written to takes no room, so the weights are there once. They are not on the meta device:
    many operators there make the torch layer run all the modules that wait, half a second of CPU time.
    """
    return Encoder(config).eval().requires_grad_(False)
