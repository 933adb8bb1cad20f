"""Real models as programs: what `torch.export` and TorchScript write for the usual kinds of networks."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

# mypy: disable-error-code="no-any-return"
# A module that is called gives Any.
from lambda_torch.project import ROOT

BATCH = Dim("batch", min=2, max=64)
STEPS = Dim("steps", min=2, max=32)
HALVES = Dim("halves", min=2, max=9)


class Scaled(nn.Module):
    """A layer, a buffer and a constant, over a batch of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Rows in, rows out."""
        return {"out": self.linear(x).relu() * self.scale * x.shape[0] + torch.tensor([1.0, 2.0, 3.0])}


class Residual(nn.Module):
    """A block of a residual network."""

    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(made)
        self.second = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        shorter = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))
        self.short = shorter if given != made else None

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out."""
        short = x if self.short is None else self.short(x)
        y = self.second_norm(self.second(self.relu(self.first_norm(self.first(x)))))
        y += short
        return self.relu(y)


class ResNet(nn.Module):
    """A small residual network, as torchvision's are built."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(Residual(8, 8), Residual(8, 16, 2))
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, classes out."""
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class MobileNet(nn.Module):
    """Depthwise convolutions, and a gate over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6()
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Images in, features out."""
        y = self.body(x)
        return (y * self.gate(y)).flatten(1)


class Tagger(nn.Module):
    """Two layers of LSTM in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> Tensor:
        """Numbers of words in, tags out."""
        y, _ = self.lstm(self.embedding(ids))
        return functional.log_softmax(self.head(y), dim=-1)


class Gated(nn.Module):
    """A GRU whose last state counts."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences in, scores out."""
        _, state = self.gru(x)
        return torch.sigmoid(self.head(state[-1]))


class Encoder(nn.Module):
    """A transformer's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.position = nn.Parameter(torch.randn(1, 32, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        """Numbers of words in, classes out."""
        return self.head(self.layers(self.embedding(ids) + self.position[:, : ids.shape[1]]).mean(1))


class Causal(nn.Module):
    """Attention that looks back only, once by torch's function and once by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.projection = nn.Linear(16, 48)
        self.head = nn.Linear(16, 30)

    def forward(self, ids: Tensor) -> Tensor:
        """Numbers of words in, scores of the next word out."""
        rows, steps = ids.shape
        heads = [
            each.view(rows, steps, 4, 4).transpose(1, 2)
            for each in self.projection(self.embedding(ids)).chunk(3, dim=-1)
        ]
        y = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        mask = torch.triu(torch.full((steps, steps), float("-inf")), 1)
        weights = (heads[0] @ heads[1].transpose(-1, -2) / 2 + mask).softmax(-1)
        return self.head(y.transpose(1, 2).reshape(rows, steps, 16)) + weights.sum()


class AutoEncoder(nn.Module):
    """Down with a convolution, up with a transposed one and with interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, 2, 1)
        self.up = nn.ConvTranspose2d(4, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, larger images out."""
        y = torch.sigmoid(self.up(functional.silu(self.down(x))))
        return functional.interpolate(y, scale_factor=2.0, mode="bilinear")


class Signal(nn.Module):
    """A convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.MaxPool1d(2))

    def forward(self, x: Tensor) -> Tensor:
        """Signals in, maxima out."""
        return self.layers(x).clamp(0, 6).amax(-1)


class Answers(nn.Module):
    """Answers of several kinds in a dict."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Rows in, masks, places and sums out."""
        mask = x > 0
        return {
            "masked": torch.where(mask, x, x.exp() - 1),
            "places": (x.argmax(-1), x.topk(2).values),
            "sums": [x.cumsum(0), x.sort(-1)[0]],
        }


class Branch(nn.Module):
    """A branch that depends on a value."""

    def forward(self, x: Tensor) -> Tensor:
        """One of two sums."""
        return torch.cond(x.sum() > 0, lambda t: t + 1, lambda t: t * 2, (x,))


class Frozen(nn.Module):
    """A part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Rows in, rows out."""
        with torch.no_grad():
            y = self.linear(x)
        return y * 2


class Joined(nn.Module):
    """Sizes that are sums, products and quotients of the inputs' sizes."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """Two matrices in, their rows in halves out."""
        return torch.cat([x, y], 0).reshape(-1, x.shape[1] // 2, 2).permute(1, 0, 2), x.shape[0] * 2 + 1


@dataclass(frozen=True)
class Sample:
    """A model, inputs for it, their dynamic sizes, and whether TorchScript can script and trace it."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    sizes: Any = None
    script: bool = True
    trace: bool = True


SAMPLES = {
    "scaled": Sample(Scaled, lambda: (torch.randn(3, 4),), {"x": {0: BATCH}}, script=False),
    "mlp": Sample(
        lambda: nn.Sequential(
            nn.Linear(4, 8), nn.GELU(), nn.Dropout(), nn.LayerNorm(8), nn.Linear(8, 3), nn.Softmax(-1)
        ),
        lambda: (torch.randn(2, 4),),
        ({0: BATCH},),
    ),
    "resnet": Sample(ResNet, lambda: (torch.randn(2, 3, 32, 32),), ({0: BATCH},)),
    "mobilenet": Sample(MobileNet, lambda: (torch.randn(2, 3, 16, 16),), ({0: BATCH},)),
    "lstm": Sample(Tagger, lambda: (torch.randint(0, 20, (2, 7)),), ({0: BATCH},)),
    "gru": Sample(Gated, lambda: (torch.randn(2, 5, 4),), ({0: BATCH},)),
    "encoder": Sample(Encoder, lambda: (torch.randint(0, 30, (2, 9)),), ({0: BATCH, 1: STEPS},), trace=False),
    "causal": Sample(Causal, lambda: (torch.randint(0, 30, (2, 9)),), ({0: BATCH, 1: STEPS},), script=False),
    "autoencoder": Sample(AutoEncoder, lambda: (torch.randn(2, 1, 16, 16),), ({0: BATCH},)),
    "signal": Sample(Signal, lambda: (torch.randn(2, 2, 10),)),
    "answers": Sample(Answers, lambda: (torch.randn(3, 4),), script=False, trace=False),
    "branch": Sample(Branch, lambda: (torch.randn(3, 4),), script=False, trace=False),
    "frozen": Sample(Frozen, lambda: (torch.randn(3, 4),), script=False),
    "joined": Sample(
        Joined,
        lambda: (torch.randn(4, 6), torch.randn(6, 6)),
        ({0: BATCH, 1: 2 * HALVES}, {0: Dim("rows", min=2, max=100), 1: 2 * HALVES}),
        script=False,
    ),
}


def write(folder: Path) -> None:
    """Write every sample as the programs that it can be."""
    for name, sample in SAMPLES.items():
        torch.manual_seed(0)
        model, inputs = sample.make().eval(), sample.inputs()
        torch.save(inputs, folder / f"{name}.inputs")
        exported = torch.export.export(model, inputs, dynamic_shapes=sample.sizes)
        torch.export.save(exported, folder / f"{name}.pt2")
        torch.export.save(exported.run_decompositions(), folder / f"{name}-decomposed.pt2")
        if sample.script:
            scripted = torch.jit.script(model)
            scripted.save(str(folder / f"{name}-scripted.torchscript"))
            torch.jit.freeze(scripted).save(str(folder / f"{name}-frozen.torchscript"))
        if sample.trace:
            torch.jit.trace(model, inputs, strict=False).save(str(folder / f"{name}-traced.torchscript"))


def written() -> Path:
    """The folder with all of them, kept below build/ under the hash of what it depends on."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + version("torch").encode()).hexdigest()[:16]
    folder = ROOT / "build" / "tests" / f"programs-{digest}"
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # TorchScript is deprecated in torch 2.13; it is still read
            warnings.simplefilter("ignore")
            write(folder)
        (folder / "whole").touch()
    return folder


def names() -> list[str]:
    """The names of the programs' files, without making them."""
    found = []
    for name, sample in SAMPLES.items():
        found += [f"{name}.pt2", f"{name}-decomposed.pt2"]
        found += [f"{name}-scripted.torchscript", f"{name}-frozen.torchscript"] if sample.script else []
        found += [f"{name}-traced.torchscript"] if sample.trace else []
    return found
