"""Recurrent layers, and generation, one token after another."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence


def recurrent() -> dict[str, Tensor]:
    """LSTM, GRU and RNN in the shapes that models use them in."""
    steps, outputs = torch.randn(12, 3, 24), {}
    layers: tuple[tuple[str, nn.Module], ...] = (
        ("lstm", nn.LSTM(24, 32)),
        ("lstm-deep", nn.LSTM(24, 32, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)),
        ("lstm-projected", nn.LSTM(24, 32, proj_size=8)),
        ("gru", nn.GRU(24, 32)),
        ("gru-deep", nn.GRU(24, 32, num_layers=2, bidirectional=True)),
        ("rnn", nn.RNN(24, 32)),
        ("rnn-relu", nn.RNN(24, 32, nonlinearity="relu")),
    )
    for name, layer in layers:
        output, state = layer.eval()(steps)
        outputs[name] = output
        outputs[f"{name}-state"] = state[-1] if isinstance(state, tuple) else state
        outputs[f"{name}-one-step"] = layer(steps[:1, :1])[0]
    for size in (4, 64, 200):  # other sizes have other kernels
        one = torch.randn(1, 1, size)
        outputs |= {f"lstm-{size}": nn.LSTM(size, size)(one)[0], f"gru-{size}": nn.GRU(size, size)(one)[0]}
    packed = pack_padded_sequence(steps, torch.tensor([5, 12, 7]), enforce_sorted=False)
    for name, layer in (("lstm", nn.LSTM(24, 16)), ("gru", nn.GRU(24, 16))):
        padded, lengths = pad_packed_sequence(layer(packed)[0])
        outputs[f"{name}-packed"], outputs[f"{name}-lengths"] = padded, lengths
    outputs["padded"] = pad_sequence([steps[:3, 0], steps[:7, 1]], batch_first=True, padding_value=-1.0)
    outputs["sequence"] = pack_sequence([steps[:7, 0], steps[:3, 1]]).data
    hidden, cell = nn.LSTMCell(24, 16)(steps[0])
    outputs |= {
        "lstm-cell": hidden + cell,
        "gru-cell": nn.GRUCell(24, 16)(steps[0]),
        "rnn-cell": nn.RNNCell(24, 16)(steps[0]),
    }
    return outputs


class _Characters(nn.Module):
    """The classic character model: one linear step from category, letter and hidden state."""

    def __init__(self, categories: int, letters: int, hidden: int) -> None:
        super().__init__()
        self.to_hidden = nn.Linear(categories + letters + hidden, hidden)
        self.to_output = nn.Linear(categories + letters + hidden, letters)
        self.mix = nn.Linear(hidden + letters, letters)
        self.dropout = nn.Dropout(0.1)

    def forward(self, category: Tensor, letter: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        combined = torch.cat((category, letter, hidden), 1)
        hidden = self.to_hidden(combined)
        output = self.dropout(self.mix(torch.cat((hidden, self.to_output(combined)), 1)))
        return torch.log_softmax(output, dim=1), hidden


def generation() -> dict[str, Tensor]:
    """Sampling letters with temperature, and greedy decoding of an LSTM language model."""
    model = _Characters(18, 59, 128).eval()
    category, hidden, letter, letters = torch.zeros(1, 18), torch.zeros(1, 128), torch.zeros(1, 59), []
    category[0][3] = letter[0][7] = 1
    for _ in range(16):
        output, hidden = model(category, letter, hidden)
        index = int(torch.multinomial((output / 0.5).exp(), 1).item())
        letters.append(index)
        letter = torch.zeros(1, 59)
        letter[0][index] = 1

    embedding, lstm, head = (
        nn.Embedding(64, 32),
        nn.LSTM(32, 48, num_layers=2, batch_first=True).eval(),
        nn.Linear(48, 64),
    )
    tokens, state = torch.tensor([[1], [2]]), None
    decoded = [tokens]
    for _ in range(12):
        inner, state = lstm(embedding(tokens), state)
        scores = cast(Tensor, head(inner[:, -1]))
        best, where = scores.topk(5)
        tokens = where.gather(1, torch.multinomial(best.softmax(-1), 1))
        decoded.append(tokens)
    return {"letters": torch.tensor(letters), "tokens": torch.cat(decoded, 1), "last": scores.argmax(-1)}


@torch.inference_mode()
def decoding() -> dict[str, Tensor]:
    """Greedy and sampled steps that write into tensors made before the loop, on weights that were folded in float64."""
    rows, letters, hidden = 3, 29, 48
    weights = [
        torch.randn(*size) for size in ((hidden, hidden + letters), (letters, hidden), (letters, hidden + letters))
    ]
    for weight in weights:
        if not torch.isfinite(weight).all():
            raise ValueError("the workload's own weights are finite")
    recurrent, mixed, straight = (weight.double() for weight in weights)
    bias = mixed @ torch.randn(hidden).double()
    table = torch.cat(
        (recurrent[:, hidden:], mixed @ recurrent[:, hidden:] + straight[:, hidden:] + bias[:, None]), 0
    ).T.float()
    step = (
        torch.cat((recurrent[:, :hidden], mixed @ recurrent[:, :hidden] + straight[:, :hidden]), 0)
        .T.float()
        .contiguous()
    )
    tables = (torch.randn(2, 1, hidden + letters)[[1]].unsqueeze(1) + table.contiguous()).flatten(0, 1)
    outputs = {}
    for name, noise in (
        ("greedy", None),
        ("sampled", torch.rand(rows, 6, letters).clamp_(min=1e-38).log_().neg_().log_().mul_(-0.5)),
    ):
        chosen = torch.tensor([1, 2, 3])
        buffers = [
            (each, each[:, :hidden], each[:, hidden:]) for each in torch.empty(2, rows, hidden + letters).unbind()
        ]
        picks: list[list[int]] = []
        for number in range(6):
            (state, _, scores), (_, previous, _) = buffers if number % 2 else reversed(buffers)
            torch.index_select(tables.flatten(0, -2), 0, chosen, out=state)
            if number:
                state.addmm_(previous, step)
            if noise is not None:
                scores.add_(noise[:, number])
            torch.argmax(scores, 1, out=chosen)
            picks.append(chosen.tolist())
        outputs[name] = torch.tensor(picks)
        outputs[f"{name}-scores"] = scores.clone()
    return outputs
