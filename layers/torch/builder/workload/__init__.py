"""The broad inference workload, as a table of named groups. The layer keeps the code that it touches hot.

    python -m builder.workload --output results.safetensors      # in a process that can import the torch to be tried

`builder.profile.record` runs it to find which pages and modules inference touches. `builder.verify` runs it on the
staged tree and on the finished tree, and compares every output bit for bit. It is deterministic: every group starts
from the same seed, on one thread if its text does not say otherwise. So two runs with the same CPU capability give the
same bytes. It needs the standard library, torch and NumPy, and uses safetensors if it is installed.

A group is here only because ordinary inference needs it: what the workload touches stays uncompressed in the layer. So
a function that imports sympy or the compiler, such as max_unpool, is left out. Training, `torch.export`,
`torch.jit.script`, `fft`, `linalg` and the like are cold on purpose, and `builder.cold_checks` tries them on the
finished layer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch

from builder.outputs import FrozenOutput
from builder.workload import attention, convolution, exceptions, linear, recurrent, state, tensors

Outputs = Mapping[str, torch.Tensor | str]


class Group(NamedTuple):
    """Some inference code that belongs together, or one check of cold code."""

    name: str
    function: Callable[[], Outputs]
    reason: str  # why a deployed model is likely to run this


GROUPS = (
    Group("linear", linear.linear, "multi-layer perceptrons and the head of almost every model, batch 1 and larger"),
    Group("activations", linear.activations, "every activation function that torch.nn names"),
    Group("bfloat16", linear.bfloat16, "weights and autocast in bfloat16 halve the memory of a model"),
    Group("float16", linear.float16, "checkpoints are published in float16, and are cast or run as they are"),
    Group("dynamic-quantized", linear.dynamic_quantized, "int8 linear and recurrent layers, the usual CPU deployment"),
    Group("convolution-1d", convolution.one_dimension, "audio and sensor models"),
    Group("convolution-2d", convolution.two_dimensions, "image models: plain, depthwise, dilated, transposed"),
    Group("convolution-3d", convolution.three_dimensions, "video and volume models"),
    Group("pooling", convolution.pooling, "between convolutions"),
    Group("interpolation", convolution.interpolation, "image resizing in preprocessing and in decoders"),
    Group("norms", convolution.norms, "every normalisation layer, in evaluation mode"),
    Group("weight-norm", convolution.weight_norm, "audio models keep their weights as direction and length"),
    Group("recurrent", recurrent.recurrent, "LSTM, GRU and RNN: layers, directions, packed sequences, cells"),
    Group("generation", recurrent.generation, "a token at a time, sampled, as character and language models do"),
    Group(
        "decoding", recurrent.decoding, "a token at a time, in buffers that are made once: no allocation in the loop"
    ),
    Group("attention", attention.attention, "scaled dot product attention: masks, causal, dtypes"),
    Group("transformer", attention.transformer, "encoder and decoder layers, fast path and plain path"),
    Group("embedding", attention.embedding, "tokens to vectors, also in bags"),
    Group("convolutional-network", convolution.network, "a small residual network, the whole of it"),
    Group("creation", tensors.creation, "factories and random numbers"),
    Group("elementwise", tensors.elementwise, "arithmetic of every dtype, with broadcasting and type promotion"),
    Group("reductions", tensors.reductions, "sums, means, extremes, norms over some or all dimensions"),
    Group("indexing", tensors.indexing, "slices, masks, gather, scatter, where"),
    Group("shapes", tensors.shapes, "views, joins and splits"),
    Group("sorting", tensors.sorting, "sort, top-k, unique, search, multinomial: how outputs become answers"),
    Group("softmax-and-losses", tensors.losses, "probabilities, and losses that are reported as scores"),
    Group("matrix-products", tensors.products, "matmul in its shapes, einsum, batched"),
    Group("printing", tensors.printing, "tensors and modules in logs"),
    Group("numpy", tensors.numpy_interoperation, "arrays in and out, shared memory, NumPy's own arithmetic"),
    Group("save-and-load", state.save_and_load, "state dicts and tensors by torch.save and torch.load"),
    Group("safetensors", state.safetensors_files, "weights are published in this format"),
    Group("torchscript", state.torchscript, "a traced module, saved, loaded and run, as older deployments do"),
    Group("modules", state.modules, "containers, hooks, buffers, dtype casts, copies"),
    Group("data-loader", state.data_loader, "batches made by the data loader in the same process"),
    Group("modes", state.modes, "no_grad, inference_mode, autocast, generators, a gradient of an input"),
    Group("parallel", state.parallel, "two threads inside an operator, and operators in several Python threads"),
    Group("errors", exceptions.errors, "wrong shapes, indices and files: the C++ exceptions that a handler catches"),
)


def run(names: Iterable[str] | None = None) -> dict[str, FrozenOutput]:
    """Run the groups (all, or those named) and give every output as `group/name`.

    Raises `KeyError` for a group that does not exist. Leaves torch's thread count at one.
    """
    known = {group.name: group for group in GROUPS}
    return run_groups(known.values() if names is None else [known[name] for name in names])


def run_groups(groups: Iterable[Group]) -> dict[str, FrozenOutput]:
    """Run `groups` one after the other, each from the same seed on one thread, and give every output as `group/name`."""
    results: dict[str, FrozenOutput] = {}
    torch.set_num_threads(1)
    for group in groups:
        torch.manual_seed(20180501)
        with warnings.catch_warnings(), torch.no_grad():
            # The workload also does what is deprecated, if deployed models still do it.
            warnings.simplefilter("ignore")
            outputs = group.function()
        results.update({f"{group.name}/{name}": freeze(value) for name, value in outputs.items()})
    return results


_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.complex128: "C128",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def freeze(value: torch.Tensor | str) -> FrozenOutput:
    """The bytes of a dense tensor in row-major order; a text becomes its UTF-8 bytes."""
    if isinstance(value, str):
        data = value.encode()
        return FrozenOutput("U8", (len(data),), data)
    # In this format a single element has stride 1, too.
    flat = value.detach().flatten().clone(memory_format=torch.contiguous_format)
    data = flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
    return FrozenOutput(_DTYPES[value.dtype], tuple(value.shape), data)
