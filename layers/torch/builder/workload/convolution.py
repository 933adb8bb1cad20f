"""Convolutions, pooling, normalisation and image resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def one_dimension() -> dict[str, Tensor]:
    """Plain, strided, grouped and transposed convolutions over a signal."""
    signal = torch.randn(2, 8, 200)
    return {
        "plain": nn.Conv1d(8, 16, 5)(signal),
        "strided": nn.Conv1d(8, 16, 7, stride=3, padding=3)(signal),
        "depthwise": nn.Conv1d(8, 8, 3, padding="same", groups=8)(signal),
        "dilated": nn.Conv1d(8, 4, 3, dilation=4)(signal),
        "transposed": nn.ConvTranspose1d(8, 4, 4, stride=2)(signal),
        "reflected": nn.Conv1d(8, 4, 3, padding=1, padding_mode="reflect")(signal),
        "unbatched": nn.Conv1d(8, 4, 3)(signal[0]),
    }


def _channels_last(module: nn.Module) -> nn.Module:
    """The module itself, with its weights in channels-last order (an overload that torch's stubs lack)."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def two_dimensions() -> dict[str, Tensor]:
    """The convolutions of image models at batch 1 and 4, in both memory formats."""
    image, batch = torch.randn(1, 3, 64, 64), torch.randn(4, 16, 28, 28)
    stem, block = nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), nn.Conv2d(16, 32, 3, padding=1)
    return {
        "stem": stem(image),
        "batch": block(batch),
        "one": block(batch[:1]),
        "channels-last": _channels_last(block)(batch.to(memory_format=torch.channels_last)),
        "pointwise": nn.Conv2d(16, 64, 1)(batch),
        "depthwise": nn.Conv2d(16, 16, 3, padding=1, groups=16)(batch),
        "grouped": nn.Conv2d(16, 32, 3, groups=4)(batch),
        "dilated": nn.Conv2d(16, 8, 3, dilation=2)(batch),
        "transposed": nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)(batch),
        "unfolded": functional.unfold(batch, 3, padding=1),
        "shuffled": functional.pixel_shuffle(batch, 2),
        "padded": functional.pad(batch, (1, 2, 3, 4), mode="replicate"),
    }


def three_dimensions() -> dict[str, Tensor]:
    """Convolutions over a clip."""
    clip = torch.randn(1, 3, 8, 24, 24)
    return {
        "plain": nn.Conv3d(3, 8, 3, padding=1)(clip),
        "strided": nn.Conv3d(3, 8, (1, 3, 3), stride=(1, 2, 2))(clip),
        "transposed": nn.ConvTranspose3d(3, 4, 2, stride=2)(clip),
        "pooled": functional.max_pool3d(clip, 2),
        "averaged": functional.adaptive_avg_pool3d(clip, 1),
    }


def pooling() -> dict[str, Tensor]:
    """Maximum, average and adaptive pooling."""
    batch = torch.randn(2, 8, 30, 30)
    _, where = functional.max_pool2d(batch, 2, return_indices=True)
    return {
        "maximum": functional.max_pool2d(batch, 3, stride=2, padding=1),
        "maximum-channels-last": functional.max_pool2d(batch.to(memory_format=torch.channels_last), 2),
        "indices": where,
        "average": functional.avg_pool2d(batch, 2),
        "adaptive-average": functional.adaptive_avg_pool2d(batch, (7, 7)),
        "global-average": functional.adaptive_avg_pool2d(batch, 1),
        "adaptive-maximum": functional.adaptive_max_pool2d(batch, 5),
        "maximum-1d": functional.max_pool1d(batch[0], 3),
        "average-1d": functional.avg_pool1d(batch[0], 3),
        "adaptive-1d": functional.adaptive_avg_pool1d(batch[0], 4),
    }


def interpolation() -> dict[str, Tensor]:
    """Resizing up and down in every mode, of floats and of bytes, and sampling along a grid."""
    image = torch.rand(1, 3, 40, 50)
    scene = (image * 255).byte()
    outputs = {
        f"{mode}-{height}": functional.interpolate(image, (height, 32), mode=mode)
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
        for height in (24, 96)
    }
    outputs["antialiased"] = functional.interpolate(image, (24, 32), mode="bilinear", antialias=True)
    outputs["antialiased-bytes"] = functional.interpolate(scene, (24, 32), mode="bilinear", antialias=True)
    outputs["linear"] = functional.interpolate(image[0], scale_factor=2, mode="linear", align_corners=True)
    grid = functional.affine_grid(
        torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]]), [1, 3, 20, 20], align_corners=False
    )
    outputs["sampled"] = functional.grid_sample(image, grid, align_corners=False)
    return outputs


def norms() -> dict[str, Tensor]:
    """Every normalisation layer as it runs in evaluation mode."""
    line, plane, volume = torch.randn(4, 16, 20), torch.randn(4, 16, 9, 9), torch.randn(2, 16, 4, 5, 6)
    return {
        "batch-1d": nn.BatchNorm1d(16).eval()(line),
        "batch-2d": nn.BatchNorm2d(16).eval()(plane),
        "batch-2d-channels-last": nn.BatchNorm2d(16).eval()(plane.to(memory_format=torch.channels_last)),
        "batch-3d": nn.BatchNorm3d(16).eval()(volume),
        "layer": nn.LayerNorm(20)(line),
        "group": nn.GroupNorm(4, 16)(plane),
        "instance": nn.InstanceNorm2d(16)(plane),
        "local-response": nn.LocalResponseNorm(3)(plane),
        "root-mean-square": nn.RMSNorm(20)(line),
        "normalised": functional.normalize(line, dim=1),
    }


def weight_norm() -> dict[str, Tensor]:
    """A weight that is computed from its direction and its length, as audio models have them."""
    line = torch.randn(4, 16, 20)
    return {"linear": nn.utils.parametrizations.weight_norm(nn.Linear(20, 4)).eval()(line)}


class _Residual(nn.Module):
    """A basic block: two convolutions with batch norm, and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, image: Tensor) -> Tensor:
        inner = functional.relu(self.norms[0](self.first(image)), inplace=True)
        return functional.relu(self.norms[1](self.second(inner)) + self.shortcut(image))


def network() -> dict[str, Tensor]:
    """A small residual network with inverted bottleneck and head, batch 1 and 2."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3), nn.BatchNorm2d(16), nn.ReLU6(inplace=True), nn.MaxPool2d(3, 2, 1),
        _Residual(16, 32, 2), _Residual(32, 64, 2),
        nn.Conv2d(64, 128, 1), nn.Hardswish(), nn.Conv2d(128, 128, 3, padding=1, groups=128), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10), nn.Softmax(dim=-1),
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 96, 96)
    return {"one": model(images[:1]), "two": model(images)}
