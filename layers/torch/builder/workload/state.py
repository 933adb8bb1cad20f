"""Weights in files, modules, modes and threads."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class _Net(nn.Module):
    """A model with parameters, buffers, a container and two input formats."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"inner": nn.Linear(16, 32), "outer": nn.Linear(32, 4)})
        self.extra = nn.ParameterList([nn.Parameter(torch.ones(4))])
        self.register_buffer("offset", torch.arange(4.0))

    def forward(self, rows: Tensor) -> Tensor:
        scores: Tensor = self.layers["outer"](torch.relu(self.layers["inner"](rows))) * self.extra[0] + self.offset
        return scores


def save_and_load() -> dict[str, Tensor]:
    """State dicts and tensors of every kind, by file and by buffer, also mapped into memory."""
    model, rows = _Net().eval(), torch.randn(3, 16)
    kinds = {
        "half": torch.randn(4).half(), "bfloat16": torch.randn(4).bfloat16(), "integers": torch.arange(6),
        "bools": torch.tensor([True, False]), "view": torch.arange(20.0).reshape(4, 5)[:, 1:3],
        "nested": [torch.ones(2), {"scalar": torch.tensor(2.5)}, 3, "text"],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.pt")
        torch.save(model.state_dict(), file)
        loaded = torch.load(file, map_location="cpu")
        mapped = {name: value.clone() for name, value in torch.load(file, mmap=True).items()}
    buffer = io.BytesIO()
    torch.save(kinds, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=True)
    legacy = io.BytesIO()
    torch.save(model.state_dict(), legacy, _use_new_zipfile_serialization=False)
    legacy.seek(0)
    first, second = _Net().eval(), _Net().eval()
    first.load_state_dict(loaded)
    second.load_state_dict(torch.load(legacy), strict=False, assign=True)
    with torch.device("meta"):
        third = nn.Linear(16, 32)  # parameters only: a buffer made here would import the compiler's half of torch
    third.load_state_dict({name: mapped[f"layers.inner.{name}"] for name in ("weight", "bias")}, assign=True)
    return {
        "original": model(rows),
        "loaded": first(rows),
        "legacy": second(rows),
        "meta": third(rows),
        "half": again["half"],
        "bfloat16": again["bfloat16"],
        "view": again["view"],
        "nested": again["nested"][1]["scalar"],
        "pickled": pickle.loads(pickle.dumps(kinds["integers"])),  # noqa: S301 - bytes of our own
    }


def safetensors_files() -> dict[str, Tensor]:
    """Weights to safetensors and back, where the package is installed; else nothing."""
    try:
        from safetensors import safe_open
        from safetensors.torch import load, load_file, save, save_file
    except ImportError:
        return {}
    weights = {name: value.contiguous() for name, value in _Net().state_dict().items()}
    weights |= {"half": torch.randn(5).half(), "bfloat16": torch.randn(5).bfloat16(), "integers": torch.arange(5)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        save_file(weights, file, metadata={"format": "pt"})
        loaded = load_file(file)
        with safe_open(file, framework="pt") as opened:
            part = opened.get_slice("layers.inner.weight")[:2]
    memory = load(save(weights))
    return {f"file-{name}": value for name, value in loaded.items()} | {"part": part, "memory": memory["bfloat16"]}


def torchscript() -> dict[str, Tensor]:
    """A traced module is saved, loaded, frozen and run: the first runs profile, the later ones are optimised."""
    model, rows = _Net().eval(), torch.randn(3, 16)
    traced = torch.jit.trace(model, rows, check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer, map_location="cpu").eval()
    outputs = {f"run-{number}": loaded(rows) for number in range(3)}
    frozen = torch.jit.freeze(loaded)
    return outputs | {f"frozen-{number}": frozen(rows) for number in range(3)}


def _fill_with_ones(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.ones_(module.weight)


def modules() -> dict[str, Tensor | str]:
    """What a serving program does with modules around the forward pass."""
    model, rows, seen = _Net(), torch.randn(3, 16), []
    handle = model.layers["inner"].register_forward_hook(lambda _module, _inputs, output: seen.append(output.mean()))
    outputs: dict[str, Tensor | str] = {"hooked": model.eval().requires_grad_(False)(rows)}
    handle.remove()
    twin = copy.deepcopy(model)
    twin.apply(_fill_with_ones)
    return outputs | {
        "seen": seen[0],
        "twin": twin(rows),
        "double": model.double()(rows.double()),
        "moved": model.to("cpu", torch.float32)(rows),
        "names": " ".join(
            [*dict(model.named_parameters()), *dict(model.named_buffers()), *dict(model.named_modules())]
        ),
        "count": str(sum(parameter.numel() for parameter in model.parameters())),
        "ensemble": torch.stack([net(rows) for net in nn.ModuleList([_Net(), _Net()])]).mean(0),
    }


def data_loader() -> dict[str, Tensor]:
    """Batches in order and shuffled, from a dataset in memory."""
    from torch.utils.data import DataLoader, TensorDataset  # what it imports is not for the other groups

    data = TensorDataset(torch.arange(20.0).reshape(10, 2), torch.arange(10))
    generator = torch.Generator().manual_seed(3)
    shuffled = [labels for _, labels in DataLoader(data, batch_size=4, shuffle=True, generator=generator)]
    texts: Any = [{"x": torch.ones(2) * number, "n": number} for number in range(4)]
    return {
        "plain": torch.stack([rows.sum() for rows, _ in DataLoader(data, batch_size=3)]),
        "shuffled": torch.cat(shuffled),
        "mapping": torch.cat([batch["n"] for batch in DataLoader(texts, batch_size=2)]),
    }


def modes() -> dict[str, Tensor]:
    """Gradient modes, generators, and the gradient of one input, as explanations of an answer need."""
    model, rows = _Net().eval(), torch.randn(3, 16)
    with torch.inference_mode():
        outputs = {"inference": model(rows).clone()}
    with torch.enable_grad():
        asked = rows.clone().requires_grad_()
        model(asked).sum().backward()
        assert asked.grad is not None
        outputs["gradient"] = asked.grad
    generator = torch.Generator().manual_seed(11)
    outputs["generator"] = torch.rand(4, generator=generator)
    state = torch.get_rng_state()
    first = torch.randn(4)
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        torch.rand(100)
    return outputs | {"first": first, "again": torch.randn(4)}


def parallel() -> dict[str, Tensor]:
    """Two threads inside an operator, then one model called from four Python threads."""
    rows = torch.randn(64, 512)
    wide, image = nn.Linear(512, 512), torch.randn(2, 8, 64, 64)
    convolution = nn.Conv2d(8, 16, 3)
    torch.set_num_threads(2)
    try:
        outputs = {
            "linear": wide(rows),
            "convolution": convolution(image),
            "sum": image.sum(-1),
            "relu": torch.relu(image),
        }
        outputs["sorted"] = torch.sort(rows, -1).values
    finally:
        torch.set_num_threads(1)
    model = _Net().eval()
    batches = torch.randn(8, 3, 16)

    def answer(batch: Tensor) -> Tensor:
        torch.set_num_threads(1)  # each thread has a setting of its own
        with torch.inference_mode():
            scores: Tensor = model(batch)
            return scores

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(answer, batches))
    return outputs | {"answers": torch.stack(answers)}
