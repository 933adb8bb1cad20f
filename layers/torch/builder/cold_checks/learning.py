"""Training: optimizers, gradients, checkpointing, static quantization."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from builder.workload import engines


def training() -> dict[str, Tensor]:
    """A small network with convolution, norm, recurrence and dropout fits sixteen samples."""
    rows, labels = torch.randn(16, 4, 12), torch.arange(16) % 3
    front, lstm, head = (
        nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU()),
        nn.LSTM(10, 16),
        nn.Linear(16, 3),
    )
    parameters = [*front.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    losses = []
    with torch.enable_grad():
        for _ in range(30):
            optimizer.zero_grad()
            scores = head(functional.dropout(lstm(front(rows))[0].mean(1), 0.05))
            loss = functional.cross_entropy(scores, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
    assert losses[-1] < losses[0] / 2, f"the loss went from {losses[0]} to {losses[-1]} only"
    return {"losses": torch.stack(losses), "weight": head.weight}


def optimizers() -> dict[str, Tensor]:
    """Three steps of every optimizer in torch.optim that takes a plain closure."""
    start = torch.randn(6, 5)
    outputs: dict[str, Tensor] = {}
    for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"):  # fmt: skip  # noqa: E501
        weight = nn.Parameter(start.clone())
        optimizer = getattr(torch.optim, name)([weight], lr=0.1)

        def closure(weight: nn.Parameter = weight, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (weight**2).sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            for _ in range(3):
                optimizer.step(closure)
        assert (weight.detach() ** 2).sum() < (start**2).sum(), name
        outputs[name] = weight
    return outputs


def backward() -> dict[str, Tensor]:
    """Gradients through the layers that deployed models have, and second derivatives checked against differences."""
    layers: dict[str, tuple[nn.Module, Tensor]] = {
        "conv1d": (nn.Conv1d(3, 4, 3), torch.randn(2, 3, 9)),
        "conv2d": (nn.Conv2d(3, 4, 3, groups=1), torch.randn(2, 3, 9, 9)),
        "conv3d": (nn.Conv3d(2, 3, 2), torch.randn(1, 2, 4, 5, 6)),
        "transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2), torch.randn(1, 3, 5, 5)),
        "group-norm": (nn.GroupNorm(2, 4), torch.randn(2, 4, 6)),
        "gru": (nn.GRU(4, 5, 2), torch.randn(6, 2, 4)),
        "transformer": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), torch.randn(5, 2, 8)),
    }
    outputs = {}
    with torch.enable_grad():
        for name, (layer, rows) in layers.items():
            asked = rows.requires_grad_()
            answer = layer(asked)
            (answer[0] if isinstance(answer, tuple) else answer).square().sum().backward()
            assert asked.grad is not None
            outputs[name] = asked.grad
            outputs[f"{name}-weight"] = torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])
        point = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x: functional.silu(x).softmax(-1).cumsum(0), (point,))
    return outputs


def checkpointing() -> dict[str, Tensor]:
    """Recomputed activations give the gradients of the plain pass, in a custom function and under hooks."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
            product: Tensor = 3 * x**2 * grads[0]
            return product

    cube: Any = Cube.apply
    block, rows = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6)), torch.randn(4, 6, requires_grad=True)
    twin = rows.detach().clone().requires_grad_()
    with torch.enable_grad():
        checkpoint(block, cube(rows), use_reentrant=False).sum().backward()
        with torch.autograd.graph.save_on_cpu():
            block(cube(twin)).sum().backward()
    assert rows.grad is not None
    assert twin.grad is not None
    torch.testing.assert_close(rows.grad, twin.grad)
    return {"gradient": rows.grad}


def quantization() -> dict[str, Tensor]:
    """A calibrated convolutional network is converted to int8, and a per-channel tensor goes there and back."""
    from torch.ao.quantization import QConfigMapping, get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    images = torch.rand(8, 3, 8, 8)
    outputs = {}
    for engine in engines.usable("x86", "qnnpack", "onednn"):
        torch.backends.quantized.engine = engine
        mapping: QConfigMapping = get_default_qconfig_mapping(engine)
        prepared = prepare_fx(copy.deepcopy(model), mapping, (images,))
        prepared(images)
        converted = convert_fx(prepared)
        outputs[engine] = converted(images)
        assert (outputs[engine] - model(images)).abs().max() < 0.2, engine
    assert outputs, "no engine for quantized operators"
    weight = torch.randn(4, 10)
    channels = torch.quantize_per_channel(weight, torch.full((4,), 0.03), torch.zeros(4), 0, torch.qint8)
    return outputs | {"channels": channels.int_repr(), "dequantized": channels.dequantize()}
