"""Writes names fast: the network becomes two tables and one matrix, and the names of a batch take each step together.

The network has no nonlinearity between its input and log_softmax, so with M = its layers multiplied out,

    [next hidden | logits] = category row of M + letter row of M + hidden @ recurrent part of M + bias

holds exactly. So a step is a table lookup, one matrix product and an argmax. The layers are multiplied out in float64
and rounded once. log_softmax never changes which letter is the largest, so it is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Decoder:
    """The folded network, float32. `width` is hidden size + symbols; symbols are the letters and the end marker.

    Attributes:
        category: (categories, width), what a category adds to every step.
        letter: (symbols, width), what a letter adds to the step that reads it, bias included.
        recurrent: (hidden size, width), what the hidden state is multiplied by.
    """

    category: Tensor
    letter: Tensor
    recurrent: Tensor

    @classmethod
    def fold(cls, weights: Mapping[str, Tensor]) -> Self:
        """Multiply out the layers of `model.network.RNN`, given its state dict.

        Raises:
            ValueError: the products are too large for float32.
        """
        w = {name: tensor.detach().double() for name, tensor in weights.items()}
        hidden, symbols = w["i2h.weight"].shape[0], w["i2o.weight"].shape[0]
        from_hidden, from_output = torch.split(w["o2o.weight"], [hidden, symbols], dim=1)
        logits = from_hidden @ w["i2h.weight"] + from_output @ w["i2o.weight"]
        logits_bias = from_hidden @ w["i2h.bias"] + from_output @ w["i2o.bias"] + w["o2o.bias"]

        columns = torch.cat((w["i2h.weight"], logits)).T  # (categories + symbols + hidden, width)
        category, letter, recurrent = torch.split(columns, [len(columns) - symbols - hidden, symbols, hidden])
        letter = letter + torch.cat((w["i2h.bias"], logits_bias))
        tables = [part.float().contiguous() for part in (category, letter, recurrent)]
        if not all(bool(torch.isfinite(table).all()) for table in tables):
            raise ValueError("the weights are so large that their products overflow float32")
        return cls(*tables)

    @torch.inference_mode()
    def decode(
        self, categories: Sequence[int], letters: Sequence[int], steps: int, noise: Tensor | None = None
    ) -> list[list[int]]:
        """Continue every start letter, until its end marker or for `steps` letters.

        Args:
            categories: the category of each row, by index.
            letters: the start letter of each row, by index; as many as categories.
            steps: at most this many letters follow a start letter.
            noise: (rows, steps, symbols), added to the logits before the largest is taken. None takes the likeliest
                letter; Gumbel noise times a temperature draws letters (see `gumbel_noise`).

        Returns:
            For each row the letters that follow its start letter, by index, without the end marker.
        """
        rows, (symbols, width) = len(letters), self.letter.shape
        hidden_size, end = width - symbols, symbols - 1
        present = list(dict.fromkeys(categories))
        # One table for the categories of this batch, (categories present * symbols, width): a step looks up one row.
        table = (self.category[present].unsqueeze(1) + self.letter).flatten(0, 1)
        # A batch of one category, the usual one, needs no offset into the table.
        offsets = None if len(present) == 1 else torch.tensor([present.index(each) * symbols for each in categories])

        # Every tensor of the loop is made before it: for tensors this small, making one costs as much as computing it.
        chosen = torch.tensor(letters)
        buffers = [
            (each, each[:, :hidden_size], each[:, hidden_size:]) for each in torch.empty(2, rows, width).unbind()
        ]
        written: list[list[int]] = []
        unended = set(range(rows))
        for step in range(steps):
            (state, _, scores), (_, previous, _) = buffers if step % 2 else reversed(buffers)
            index = chosen if offsets is None else chosen + offsets
            torch.index_select(table, 0, index, out=state)
            if step:  # the state before the first letter is zero
                state.addmm_(previous, self.recurrent)
            if noise is not None:
                scores.add_(noise[:, step])
            torch.argmax(scores, 1, out=chosen)
            picks = chosen.tolist()
            written.append(picks)
            if end in picks:
                unended.difference_update(row for row, symbol in enumerate(picks) if symbol == end)
                if not unended:
                    break
        return [list(row[: row.index(end)] if end in row else row) for row in zip(*written, strict=True)]


def gumbel_noise(rows: int, steps: int, symbols: int, temperature: float, generator: torch.Generator) -> Tensor:
    """Noise that turns "the largest" into "drawn at this temperature": (rows, steps, symbols), float32.

    argmax(logits + temperature * Gumbel) has the distribution softmax(logits / temperature) (the Gumbel-max trick,
    https://arxiv.org/abs/1411.0030). Multiplying the noise, rather than dividing the logits, cannot overflow however
    small the temperature is. It is drawn row after row, so the first rows are the same however many follow.
    """
    return scaled_gumbel(torch.rand(rows, steps, symbols, generator=generator), temperature)


def scaled_gumbel(uniform: Tensor, temperature: float) -> Tensor:
    """Turn numbers drawn evenly from [0, 1) into Gumbel noise times the temperature, in place; always finite."""
    # An exact 0 (one draw in 2**24) would become -inf, and NaN where the temperature is 0 in float32.
    return uniform.clamp_(min=torch.finfo(uniform.dtype).tiny).log_().neg_().log_().mul_(-temperature)
