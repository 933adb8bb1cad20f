"""torch as a package: its metadata, sources, tools, and the distributed half."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import io
import json
import linecache
import pkgutil
import runpy
import sys
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

from builder import paths


def distributed() -> dict[str, Tensor]:
    """The module is imported with its sharding halves; a group of one reduces and gathers."""
    import torch.distributed as dist
    import torch.distributed.fsdp
    import torch.distributed.tensor
    from torch._C._distributed_c10d import HashStore

    assert dist.is_available()
    store = HashStore()
    store.set("key", "value")
    assert store.get("key") == b"value"
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        numbers = torch.arange(4.0)
        dist.all_reduce(numbers)
        gathered = [torch.empty(4)]
        dist.all_gather(gathered, numbers)
        wrapped = nn.parallel.DistributedDataParallel(nn.Linear(4, 2))
        return {"reduced": numbers, "gathered": gathered[0], "parallel": wrapped(numbers)}
    finally:
        dist.destroy_process_group()


def profiler() -> dict[str, str]:
    """Events are recorded and tabulated, and floating point operations are counted."""
    from torch.utils.flop_counter import FlopCounterMode

    model, rows = nn.Linear(8, 4), torch.randn(2, 8)
    with torch.profiler.profile(record_shapes=True) as profile:
        model(rows)
    names = {event.key for event in profile.key_averages()}
    assert "aten::addmm" in names or "aten::linear" in names, names
    with FlopCounterMode(display=False) as counter:
        model(rows)
    return {"flops": str(counter.get_total_flops())}


def assert_close() -> dict[str, str]:
    """Close tensors pass, others fail with the numbers in the message."""
    torch.testing.assert_close(torch.ones(3), torch.ones(3) + 1e-7)
    torch.testing.assert_close({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]})
    try:
        torch.testing.assert_close(torch.ones(3), torch.tensor([1.0, 2.0, 1.0]))
    except AssertionError as error:
        message = str(error)
    else:
        raise AssertionError("different tensors were called close")
    assert "Mismatched elements: 1 / 3" in message, message
    return {"message": message}


def representation() -> dict[str, str]:
    """Tensors of rare kinds in print, and the settings of printing."""
    block = torch.randn(3, 3)
    torch.set_printoptions(precision=2, sci_mode=True)
    precise = repr(block)
    torch.set_printoptions(profile="default")
    with torch.enable_grad():
        derived = repr(torch.ones(2, requires_grad=True) * 2)
    return {
        "plain": repr(block), "precise": precise, "derived": derived, "complex": repr(torch.complex(block, block)),
        "sparse": repr(block.relu().to_sparse()), "rows": repr(block.to_sparse_csr()), "meta": repr(block.to("meta")),
        "quantized": repr(torch.quantize_per_tensor(block, 0.1, 0, torch.qint8)), "large": repr(torch.ones(90, 90)),
        "storage": repr(torch.ones(2).untyped_storage()), "generator": type(torch.Generator()).__name__,
        "configuration": torch.__config__.parallel_info().splitlines()[0],
    }  # fmt: skip


def metadata() -> dict[str, str]:
    """Every package has its version, its requirements and its licence text; torch's is the one that runs."""
    assert importlib.metadata.version("torch") == torch.__version__
    assert any(line.startswith("sympy") for line in importlib.metadata.requires("torch") or [])
    names = (
        "torch",
        "numpy",
        "sympy",
        "networkx",
        "jinja2",
        "markupsafe",
        "fsspec",
        "filelock",
        "mpmath",
        "typing_extensions",
    )
    folder = paths.tree_of(torch.__file__)
    for name in names:
        distribution = importlib.metadata.distribution(name)
        assert distribution.metadata["Name"], name
        located = str(distribution.locate_file(""))
        assert Path(located).resolve() == folder.resolve(), f"{name} was found in {located}, not in {folder}"
    licences = [path for path in folder.glob("torch-*.dist-info/**/*") if "LICENSE" in path.name.upper()]
    assert licences, "torch's licence text is missing"
    return {name: importlib.metadata.version(name) for name in names}


def sources() -> dict[str, str]:
    """`inspect`, `linecache`, tracebacks and `pkgutil` see the sources of loaded and of cold modules."""
    import torch._inductor.config
    import torch.fx.passes.graph_drawer as cold

    try:
        nn.Linear(2, 2)(torch.ones(1, 3))
    except RuntimeError:
        text = traceback.format_exc()
    assert "return F.linear(input, self.weight, self.bias)" in text, text
    line = linecache.getline(inspect.getsourcefile(cold) or "", 1, vars(cold))
    assert line.strip(), "linecache found nothing"
    data = pkgutil.get_data("torch", "version.py") or b""
    assert torch.__version__.encode() in data
    names = sorted(module.name for module in pkgutil.iter_modules(torch.__path__))
    return {
        "hot": inspect.getsource(nn.Linear),
        "cold": inspect.getsource(cold),
        "config": str(torch._inductor.config.debug),
        "line": line,
        "modules": " ".join(names),
    }


def commands() -> dict[str, str]:
    """What `python -m` does with torch's own programs, hot and cold: the name is found and run as `__main__`."""
    outputs = {}
    for module in ("torch.distributed.run", "torch.utils.model_dump"):
        out, arguments = io.StringIO(), sys.argv
        sys.argv = [module, "--help"]
        try:
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        finally:
            sys.argv = arguments
        assert "usage" in out.getvalue().lower(), f"{module} --help printed {out.getvalue()!r}"
        outputs[module] = out.getvalue().splitlines()[0]
    return outputs


def operators() -> dict[str, str]:
    """The kernels of all operators, after the first use of a module that inference does not need."""
    from builder.python.deferred.operators import kernels

    assert callable(torch.export.export)
    return {"kernels": json.dumps(kernels(), sort_keys=True)}


def meta_tensors() -> dict[str, str]:
    """Shapes and types that layers give for tensors without data."""
    rows = torch.empty(2, 3, 16, 16, device="meta")
    convolved = nn.Conv2d(3, 8, 3, padding=1, device="meta")(rows)
    encoded, _ = nn.LSTM(16, 8, device="meta")(rows[:, 0])
    product = torch.einsum("bchw,bcwv->bchv", rows, rows)
    return {
        name: f"{tuple(each.shape)} {each.dtype} {each.stride()}"
        for name, each in (("convolved", convolved), ("encoded", encoded), ("product", product))
    }


def python_operators() -> dict[str, str]:
    """Operators of the namespaces `prims` and `higher_order`."""
    return {"prim": str(torch.ops.prims.add.default._schema), "higher-order": str(torch.ops.higher_order.cond)}
