"""Linear layers and activations, in the number formats that are deployed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from builder.workload import engines


def linear() -> dict[str, Tensor]:
    """A perceptron at batch 1, 8 and 64: one row, a few rows and blocked matrix products take different kernels."""
    network = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 128, bias=False), nn.Tanh())
    network.append(nn.Linear(128, 10)).eval()
    outputs = {f"batch-{rows}": network(torch.randn(rows, 256)) for rows in (1, 8, 64)}
    outputs["unbatched"] = network(torch.randn(256))
    outputs["float64"] = network.double()(torch.randn(4, 256, dtype=torch.float64))
    outputs["bilinear"] = nn.Bilinear(8, 16, 4)(torch.randn(3, 8), torch.randn(3, 16))
    return outputs


_ACTIVATIONS: tuple[nn.Module, ...] = (
    nn.CELU(), nn.ELU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.GLU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardswish(),
    nn.Hardtanh(), nn.LeakyReLU(), nn.LogSigmoid(), nn.Mish(), nn.PReLU(), nn.ReLU(), nn.ReLU6(), nn.SELU(), nn.SiLU(),
    nn.Sigmoid(), nn.Softplus(), nn.Softshrink(), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 20.0),
)  # fmt: skip


def activations() -> dict[str, Tensor]:
    """Every activation on a row that is long enough for the vectorised loop and has a rest."""
    rows = torch.linspace(-6, 6, 2 * 1030).reshape(2, 1030)
    outputs = {f"{number:02}-{type(module).__name__}": module(rows) for number, module in enumerate(_ACTIVATIONS)}
    outputs["gelu-bfloat16"] = functional.gelu(rows.bfloat16())
    outputs["silu-bfloat16"] = functional.silu(rows.bfloat16())
    return outputs


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 64)).eval()


def bfloat16() -> dict[str, Tensor]:
    """A model cast to bfloat16, and one in float32 under autocast."""
    model, rows = _model(), torch.randn(16, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = {"autocast": model(rows)}
    model = model.bfloat16()
    outputs["cast"] = model(rows.bfloat16())
    outputs["one-row"] = model(rows[:1].bfloat16())
    convolution = nn.Conv2d(3, 16, 3, padding=1).bfloat16()
    outputs["convolution"] = convolution(torch.randn(1, 3, 32, 32, dtype=torch.bfloat16))
    outputs["softmax"] = outputs["cast"].softmax(-1)
    outputs["back"] = outputs["cast"].float()
    return outputs


def float16() -> dict[str, Tensor]:
    """Half precision weights, run as they are and cast back."""
    model, rows = _model().half(), torch.randn(16, 128).half()
    return {"cast": model(rows), "one-row": model(rows[:1]), "back": model.float()(rows.float())}


class _Tagger(nn.Module):
    """An LSTM with a linear head, as it would be quantized for deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, 48, num_layers=2, bidirectional=True)
        self.head = nn.Linear(96, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.lstm(tokens)[0]
        scores: Tensor = self.head(hidden)
        return scores


def dynamic_quantized() -> dict[str, Tensor]:
    """Dynamic int8 (and float16) quantization of a recurrent tagger and a perceptron, and their state dicts."""
    tokens = torch.randn(9, 2, 32)
    quantize: Callable[..., nn.Module] = torch.ao.quantization.quantize_dynamic
    with engines.usable_default() as engine:
        tagger = quantize(_Tagger().eval(), {nn.LSTM, nn.Linear}, dtype=torch.qint8)
        # QNNPACK has no float16.
        half = None if engine == "qnnpack" else quantize(_Tagger().eval(), {nn.LSTM, nn.Linear}, dtype=torch.float16)
        perceptron = quantize(_model(), {nn.Linear}, dtype=torch.qint8)
        again = quantize(_model(), {nn.Linear}, dtype=torch.qint8)
        again.load_state_dict(perceptron.state_dict())
        rows = torch.randn(16, 128)
        whole = torch.quantize_per_tensor(rows, 0.05, 10, torch.quint8)
        return {
            "tagger": tagger(tokens),
            **({} if half is None else {"tagger-float16": half(tokens)}),
            "perceptron": perceptron(rows),
            "perceptron-one-row": perceptron(rows[:1]),
            "reloaded": again(rows),
            "per-tensor": whole.int_repr(),
            "dequantized": whole.dequantize(),
        }
