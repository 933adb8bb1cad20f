"""A table of checks of code that the workload never touches: what is cold in the layer must work, too.

    python -m builder.cold_checks --output FOLDER        # in a process that can import the torch to be tried

Every check runs in a process of its own, forked right after `import torch`. So no check makes code hot for another one,
and a crash fails only one check. A check returns named outputs, which `builder.verify` compares with those of the
staged tree, bit for bit. It asserts only what is true of any right answer.
"""

from __future__ import annotations

from builder.cold_checks import compilers, learning, mathematics, packages, storage, system
from builder.workload import Group

CHECKS = (
    Group("training", learning.training, "a network learns, by AdamW and a schedule"),
    Group("optimizers", learning.optimizers, "every optimizer takes steps"),
    Group(
        "backward", learning.backward, "gradients of convolutions, recurrent layers and attention; second derivatives"
    ),
    Group("checkpointing", learning.checkpointing, "activation checkpointing and hooks on gradients"),
    Group("quantization", learning.quantization, "static int8 quantization by graph rewriting"),
    Group("export", compilers.export, "torch.export with dynamic shapes, saved and loaded"),
    Group(
        "jit-script", compilers.jit_script, "torch.jit.script, of torch's own modules too, which reads their sources"
    ),
    Group("compile-eager", compilers.compile_eager, 'torch.compile(backend="eager"), graph breaks included'),
    Group("fx", compilers.fx, "symbolic tracing, graph printing and rewriting"),
    Group("onnx", compilers.onnx, "torch.onnx can be imported and names what it lacks"),
    Group("fft", mathematics.fft, "transforms in one and two dimensions, and the short-time one"),
    Group("linalg", mathematics.linalg, "decompositions and solvers (LAPACK)"),
    Group("vmap", mathematics.vmap, "torch.func: vmap, grad, jacobians"),
    Group("distributions", mathematics.distributions, "sampling, log-probabilities, divergences"),
    Group("sparse", mathematics.sparse, "sparse and nested layouts"),
    Group("special", mathematics.special, "special functions, windows, complex numbers"),
    Group("exceptions", mathematics.exceptions, "C++ exceptions, unwound through frames that were never touched"),
    Group("save-and-load", storage.save_and_load, "whole modules pickled by torch.save, and read back"),
    Group("package", storage.package, "torch.package archives"),
    Group("shared-memory", storage.shared_memory, "tensors between processes, by torch_shm_manager"),
    Group("data-loader-workers", storage.data_loader_workers, "a data loader with worker processes"),
    Group("distributed", system.distributed, "torch.distributed is imported, with a store and a one-member group"),
    Group("profiler", system.profiler, "torch.profiler's events and the flop counter"),
    Group("assert-close", system.assert_close, "torch.testing.assert_close, both ways"),
    Group(
        "operators", system.operators, "after torch.export was touched, every operator has the kernels of stock torch"
    ),
    Group("meta", system.meta_tensors, "shapes without data, whose kernels are registered by modules that wait"),
    Group("python-operators", system.python_operators, "operators that are defined in Python, by name"),
    Group("repr", system.representation, "tensors of rare kinds in print"),
    Group("metadata", system.metadata, "importlib.metadata: versions, requirements, licences"),
    Group("sources", system.sources, "inspect, linecache and tracebacks show torch's sources"),
    Group("commands", system.commands, "modules that are run by python -m"),
    Group("numpy", packages.numpy_corners, "NumPy beyond arrays: fft, linalg, random, polynomials, masked, testing"),
    Group("sympy", packages.symbolic, "sympy and mpmath compute"),
    Group("networkx", packages.graphs, "networkx finds paths"),
    Group("jinja2", packages.templates, "jinja2 renders"),
    Group("fsspec", packages.file_systems, "fsspec, filelock and setuptools do their work"),
)
