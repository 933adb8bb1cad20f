"""Pickles, archives, and tensors that cross a process boundary."""

from __future__ import annotations

import collections
import io
import pickle
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def save_and_load() -> dict[str, Tensor | str]:
    """A whole module with optimizer and generator state is pickled and unpickled; a safe load refuses it by name."""
    model: Any = nn.Sequential(collections.OrderedDict(lstm=nn.LSTM(4, 5), norm=nn.LayerNorm(5)))
    optimizer = torch.optim.Adam(model.parameters())
    buffer = io.BytesIO()
    torch.save({"model": model, "optimizer": optimizer.state_dict(), "state": torch.get_rng_state()}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    buffer.seek(0)
    try:
        torch.load(buffer)
    except pickle.UnpicklingError as error:
        refusal = str(error).splitlines()[0]
    else:
        raise AssertionError("a module was unpickled by the safe loader")
    with torch.device("meta"):
        shapes = [tensor.shape for tensor in (torch.arange(5), torch.empty(2, 3).mean(0))]
    assert shapes == [(5,), (3,)], shapes
    rows = torch.randn(3, 2, 4)
    torch.testing.assert_close(loaded["model"].lstm(rows)[0], model.lstm(rows)[0])
    buffer.seek(0)
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(buffer)
    assert "torch.nn.modules.rnn.LSTM" in unsafe, unsafe
    return {"output": loaded["model"].norm(loaded["model"].lstm(rows)[0]), "refusal": refusal}


def package() -> dict[str, Tensor]:
    """A module with its source goes into a torch.package archive and comes back."""
    from torch.package.package_exporter import PackageExporter
    from torch.package.package_importer import PackageImporter

    buffer, rows = io.BytesIO(), torch.randn(2, 4)
    model = nn.Linear(4, 3)
    with PackageExporter(buffer) as exporter:
        exporter.extern("torch.**")
        exporter.save_source_string("extra.doubling", "def double(x):\n    return x * 2\n")
        exporter.save_pickle("model", "model.pkl", model)
    buffer.seek(0)
    importer = PackageImporter(buffer)
    double = importer.import_module("extra.doubling").double
    return {"output": double(importer.load_pickle("model", "model.pkl")(rows))}


def shared_memory() -> dict[str, Tensor]:
    """A forked child writes into a tensor that the shared memory manager keeps."""
    torch.multiprocessing.set_sharing_strategy("file_system")
    shared = torch.zeros(4).share_memory_()
    context = torch.multiprocessing.get_context("fork")
    results, seen = context.SimpleQueue(), context.Event()
    process = context.Process(target=_send, args=(shared, results, seen))
    process.start()
    received: Tensor = results.get().clone()
    seen.set()
    process.join()
    assert process.exitcode == 0
    return {"shared": shared.clone(), "received": received}


def _send(shared: Tensor, results: SimpleQueue[Tensor], seen: Event) -> None:
    shared.add_(3.0)
    results.put(torch.arange(5.0))
    seen.wait()  # a sent tensor lives as long as its sender


class _Squares(Dataset[Tensor]):
    """A dataset that computes its samples in the worker."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(float(index)) ** 2


def data_loader_workers() -> dict[str, Tensor]:
    """Two worker processes deliver every sample in order."""
    return {"samples": torch.cat(list(DataLoader(_Squares(), batch_size=3, num_workers=2)))}
