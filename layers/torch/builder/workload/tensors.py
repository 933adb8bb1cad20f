"""Tensor arithmetic: creation, elementwise, reductions, indexing, shapes, sorting, probabilities, products, printing, NumPy."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def creation() -> dict[str, Tensor]:
    """Factories, random numbers and initialisation."""
    square = torch.empty(12, 12)
    return {
        "arange": torch.arange(0, 10, 0.5),
        "linspace": torch.linspace(0, 1, 33),
        "full": torch.full((3, 4), 7, dtype=torch.int32),
        "eye": torch.eye(5),
        "like": torch.zeros_like(torch.ones(2, 3)) + torch.full_like(torch.ones(2, 3), 2.5),
        "list": torch.tensor([[1.5, 2], [3, 4]]),
        "triangle": torch.ones(4, 4).tril() + torch.ones(4, 4).triu(1) * 2,
        "mesh": torch.stack(torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")),
        "uniform": torch.rand(37),
        "normal": torch.randn(1000),
        "normal-bfloat16": torch.randn(40, dtype=torch.bfloat16),
        "integers": torch.randint(0, 100, (50,)),
        "permutation": torch.randperm(50),
        "bernoulli": torch.bernoulli(torch.full((40,), 0.3)),
        "exponential": torch.empty(20).exponential_(),
        "gumbel": functional.gumbel_softmax(torch.randn(3, 8), hard=True),
        "kaiming": nn.init.kaiming_uniform_(square).clone(),
        "xavier": nn.init.xavier_normal_(square).clone(),
    }


def elementwise() -> dict[str, Tensor]:
    """Arithmetic over every dtype, with vectorised and broadcast shapes."""
    outputs: dict[str, Tensor] = {}
    for dtype in _FLOATS:
        name, left = str(dtype).removeprefix("torch."), torch.linspace(-3, 3, 210).reshape(2, 105).to(dtype)
        right = left.flip(1) + 4
        outputs[f"{name}-arithmetic"] = (left * 2 + right - 1) / right
        outputs[f"{name}-clamp"] = left.clamp(-1, 1).add_(right, alpha=0.5).abs().sqrt()
        outputs[f"{name}-functions"] = left.exp() + right.log() + left.tanh() + left.sigmoid() + left.sin() * left.cos()
        outputs[f"{name}-compared"] = (left > 0) & (right <= 4) | left.eq(right)
        outputs[f"{name}-broadcast"] = left[:, None, :8] * right[None, :, :8]
    for dtype in _INTEGERS:
        name, left = str(dtype).removeprefix("torch."), torch.arange(1, 71).to(dtype)
        outputs[f"{name}-arithmetic"] = left * 2 + left // 3 - left % 4
        outputs[f"{name}-float"] = left / 7
        outputs[f"{name}-compared"] = left >= 35
    line = torch.linspace(0.1, 4, 99)
    outputs["powers"] = line**2 + line**0.5 + line.pow(3) + line.rsqrt() + line.reciprocal()
    outputs["rounded"] = line.round() + line.floor() + line.ceil() + line.trunc() + line.frac()
    outputs["extremes"] = torch.maximum(line, line.flip(0)) + torch.minimum(line, torch.tensor(1.5))
    outputs["errors"] = line.erf() + line.log1p() + line.expm1() + torch.atan2(line, line.flip(0))
    outputs["lerp"] = torch.lerp(line, line.flip(0), 0.3) + torch.addcmul(line, line, line, value=0.1)
    outputs["cleaned"] = torch.nan_to_num(torch.tensor([float("nan"), float("inf"), 1.0]))
    outputs["finite"] = torch.isfinite(outputs["powers"]) & ~torch.isnan(line)
    outputs["logic"] = torch.logical_xor(line > 1, line < 3)
    outputs["shifted"] = torch.arange(9) << 2 | torch.arange(9) & 3
    outputs["complex"] = torch.complex(line, line.flip(0)) * 2
    outputs["promoted"] = torch.arange(5) + torch.linspace(0, 1, 5).half()
    return outputs


def reductions() -> dict[str, Tensor]:
    """Sums, means, extremes, norms and scans, over some or all dimensions."""
    block, numbers = torch.randn(6, 7, 65), torch.arange(60).reshape(3, 20)
    best, where = block.max(dim=1)
    return {
        "sum": block.sum(), "sum-rows": block.sum((0, 2)), "sum-integers": numbers.sum(1), "sum-bools": (block > 0).sum(),
        "mean": block.mean(-1), "mean-kept": block.mean((1, 2), keepdim=True), "variance": block.var(1),
        "deviation": block.std(), "product": block[0, 0, :9].prod(), "best": best, "where": where, "least": block.min(),
        "range": torch.stack(torch.aminmax(block)), "argmax": block.argmax(-1), "argmin": block.argmin(),
        "amax": block.amax((0, 1)), "median": block.median(), "quantile": block[0].quantile(0.9),
        "norm": block.norm(), "norm-rows": block.norm(dim=-1), "norm-1": block.norm(1, dim=-1),
        "logsumexp": block.logsumexp(-1), "any": (block > 3).any(1), "all": (block > -9).all(),
        "cumsum": block.cumsum(-1), "cumprod": block[0].cumprod(-1), "cummax": block.cummax(1).values,
        "count": torch.count_nonzero(numbers), "counts": torch.bincount(numbers.flatten() % 7),
        "histogram": torch.histc(block, 10), "mean-bfloat16": block.bfloat16().mean(-1), "sum-float64": block.double().sum(0),
    }  # fmt: skip


def indexing() -> dict[str, Tensor]:
    """Reading and writing by slices, masks and index tensors."""
    block, rows = torch.randn(6, 8, 10), torch.tensor([0, 2, 5, 2])
    written = block.clone()
    written[1:3, ..., ::2] = 0
    written[written > 1.5] = 1.5
    written[rows, 3] = torch.arange(10.0)
    written[:, 0].fill_(-1)
    return {
        "slices": block[1:, -1, ::3],
        "none": block[None, 0, :, None],
        "mask": block[block > 1],
        "rows": block[rows],
        "points": block[rows, torch.tensor([1, 3, 5, 7])],
        "written": written,
        "selected": block.index_select(1, rows),
        "gathered": block.gather(2, torch.randint(0, 10, (6, 8, 3))),
        "scattered": torch.zeros(3, 5).scatter_(1, torch.tensor([[0], [2], [4]]), 1.0),
        "added": torch.zeros(6).index_add_(0, rows, torch.ones(4)),
        "scatter-added": torch.zeros(5).scatter_add_(0, rows % 5, torch.ones(4)),
        "where": torch.where(block > 0, block, 0.1),
        "filled": block.masked_fill(block < 0, float("-inf")),
        "masked": block.masked_select(block > 2),
        "taken": block.take(torch.tensor([1, 50, 100])),
        "along": torch.take_along_dim(block, block.argsort(-1), -1),
        "nonzero": (block > 2).nonzero(),
        "item": torch.tensor([block[0, 0, 0].item(), *block[0, 0].tolist()]),
    }


def shapes() -> dict[str, Tensor]:
    """Views, permutations, joins and splits."""
    block = torch.arange(120.0).reshape(2, 3, 4, 5)
    return {
        "permuted": block.permute(3, 1, 0, 2).contiguous(),
        "transposed": block.transpose(1, 2).reshape(2, 4, 15),
        "matrix": block[0, 0].t().clone(),
        "flat": block.flatten(1).unflatten(1, (6, 10)),
        "squeezed": block[:1].squeeze(0).unsqueeze(-1),
        "expanded": block[:, :1].expand(2, 6, 4, 5).clone(),
        "repeated": block[0, 0].repeat(2, 3),
        "interleaved": block[0, 0].repeat_interleave(torch.tensor([1, 2, 0, 3]), dim=0),
        "joined": torch.cat([block, block * 2], dim=1),
        "stacked": torch.stack([block, block], dim=2),
        "rows": torch.vstack([block[0, 0], block[1, 1]]),
        "parts": torch.cat([part.mean(-1) for part in block.split((1, 2), dim=1)], 1),
        "chunks": torch.stack([part.sum() for part in block.chunk(3, -1)]),
        "unbound": torch.stack(list(block.unbind(1))),
        "flipped": block.flip(-1).roll(1, 0),
        "moved": block.movedim(0, -1).contiguous(),
        "windows": torch.arange(12.0).unfold(0, 4, 2),
        "cast": block.to(torch.int16).to(torch.bool),
        "strided": torch.as_strided(block, (3, 3), (7, 2)).clone(),
        "diagonal": torch.diagonal(block[0, 0]).diag(),
        "padded": functional.pad(block[0], (1, 1), value=3.0),
    }


def sorting() -> dict[str, Tensor]:
    """Sorting, selecting and sampling."""
    scores, numbers = torch.randn(5, 300), torch.randint(0, 20, (200,))
    values, where = scores.sort(-1, descending=True)
    best, places = scores.topk(10)
    unique, inverse, counts = numbers.unique(return_inverse=True, return_counts=True)
    chances = values.softmax(-1)
    kept = chances.cumsum(-1) - chances > 0.9
    nucleus = where.gather(1, torch.multinomial(chances.masked_fill(kept, 0), 3))
    return {
        "values": values, "where": where, "stable": numbers.sort(stable=True).indices, "best": best, "places": places,
        "least": scores.topk(3, largest=False).values, "kth": scores.kthvalue(7).values, "order": numbers.argsort(),
        "unique": unique, "inverse": inverse, "counts": counts, "consecutive": torch.unique_consecutive(numbers),
        "searched": torch.searchsorted(values[0].flip(0), scores[1]), "buckets": torch.bucketize(scores, torch.arange(-2.0, 3)),
        "sampled": torch.multinomial(scores.softmax(-1), 4), "replaced": torch.multinomial(torch.ones(9), 30, replacement=True),
        "nucleus": nucleus, "among": torch.isin(numbers, torch.tensor([3, 5])),
        "sorted-bfloat16": scores.bfloat16().sort().values,
    }  # fmt: skip


def losses() -> dict[str, Tensor]:
    """Softmax in its forms, and the losses that are reported as scores."""
    scores, labels, target = torch.randn(6, 9), torch.randint(0, 9, (6,)), torch.rand(6, 9)
    chances = scores.softmax(-1)
    return {
        "softmax": chances,
        "softmax-first": scores.softmax(0),
        "softmax-float64": scores.softmax(-1, dtype=torch.float64),
        "log-softmax": scores.log_softmax(-1),
        "softmin": functional.softmin(scores, -1),
        "cross-entropy": functional.cross_entropy(scores, labels),
        "cross-entropy-smooth": functional.cross_entropy(scores, labels, label_smoothing=0.1, reduction="none"),
        "negative-log": functional.nll_loss(scores.log_softmax(-1), labels),
        "square": functional.mse_loss(scores, target),
        "absolute": functional.l1_loss(scores, target),
        "smooth": functional.smooth_l1_loss(scores, target),
        "binary": functional.binary_cross_entropy(chances, target),
        "binary-logits": functional.binary_cross_entropy_with_logits(scores, target),
        "divergence": functional.kl_div(scores.log_softmax(-1), target.softmax(-1), reduction="batchmean"),
        "cosine": functional.cosine_embedding_loss(scores, target, torch.ones(6)),
    }


def products() -> dict[str, Tensor]:
    """Matrix products in the shapes that take different kernels."""
    left, right, batch = torch.randn(33, 65), torch.randn(65, 17), torch.randn(4, 20, 30)
    return {
        "matrix": left @ right,
        "large": torch.randn(300, 300) @ torch.randn(300, 300),
        "transposed": right.t() @ left.t(),
        "vector": left @ right[:, 0],
        "dot": left[0] @ right[:, 0],
        "batch": batch @ batch.transpose(1, 2),
        "batch-broadcast": batch @ torch.randn(30, 8),
        "added": torch.addmm(torch.randn(17), left, right),
        "batch-added": torch.baddbmm(torch.randn(4, 20, 20), batch, batch.transpose(1, 2), alpha=0.5),
        "einsum": torch.einsum("bij,bkj->bik", batch, batch),
        "einsum-trace": torch.einsum("bij,jk->bk", batch, torch.randn(30, 5)),
        "outer": torch.outer(left[0, :8], left[1, :9]),
        "tensordot": torch.tensordot(batch, batch, dims=([1, 2], [1, 2])),
        "float64": left.double() @ right.double(),
        "integers": torch.arange(12).reshape(3, 4) @ torch.arange(8).reshape(4, 2),
        "bfloat16": left.bfloat16() @ right.bfloat16(),
    }


def printing() -> dict[str, str]:
    """Tensors and modules as text."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LSTM(4, 5, num_layers=2))
    summary = io.StringIO()
    print(torch.randn(3, 3), torch.arange(5), file=summary)
    return {
        "floats": repr(torch.randn(3, 4)),
        "integers": repr(torch.arange(12).reshape(3, 4)),
        "bools": repr(torch.tensor([True, False])),
        "long": str(torch.arange(2000.0)),
        "small": str(torch.tensor([1e-9, 1.0, 1e9])),
        "special": str(torch.tensor([float("nan"), float("inf"), 1])),
        "bfloat16": repr(torch.ones(2, dtype=torch.bfloat16)),
        "scalar": f"{torch.tensor(3.14159):.3f} {torch.tensor(3)}",
        "empty": repr(torch.empty(0, 3)),
        "gradient": repr(torch.ones(2, requires_grad=True)),
        "parameter": repr(nn.Parameter(torch.ones(2))),
        "size": f"{torch.ones(2, 3).shape} {torch.ones(2).dtype} {torch.ones(2).device}",
        "module": repr(model),
        "printed": summary.getvalue(),
    }


def numpy_interoperation() -> dict[str, Tensor]:
    """Arrays to tensors and back, shared memory, and the NumPy that pre- and postprocessing is written in."""
    generator = np.random.default_rng(7)
    array = generator.normal(size=(12, 20)).astype(np.float32)
    shared = torch.from_numpy(array)
    shared[0] = 1.0
    scaled = (array - array.mean(axis=0)) / (array.std(axis=0) + 1e-6)
    image = np.ascontiguousarray(np.arange(75, dtype=np.uint8).reshape(5, 5, 3)[:, ::-1].transpose(2, 0, 1))
    file = io.BytesIO()
    np.savez(file, array=array, image=image)
    file.seek(0)
    with np.load(file) as loaded:
        restored = loaded["array"]
    return {
        "shared": torch.tensor(array[0]),
        "scaled": torch.as_tensor(scaled),
        "product": torch.from_numpy(array @ array.T),
        "image": torch.from_numpy(image),
        "sorted": torch.from_numpy(np.argsort(array, axis=-1)[:, ::-1].copy()),
        "clipped": torch.from_numpy(np.clip(np.concatenate([array, restored]), -1, 1)),
        "where": torch.from_numpy(np.where(array > 0, np.exp(array), np.maximum(array, -1.0))),
        "converted": torch.tensor(np.asarray(shared.double()).sum(axis=1)),
        "restored": torch.from_numpy(restored),
        "scalar": torch.tensor(float(np.float64(shared[3].sum().item()))),
        "list": torch.tensor(shared[:2].numpy().tolist()),
    }
