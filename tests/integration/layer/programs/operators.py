"""Run PyTorch's own operator database and write a digest of every output, forward and backward.

    python operators.py OUTPUT.json [SAMPLES]        # SAMPLES of each operator and dtype; all of them if left out

`OUTPUT.json` has one entry a sample: `{"operator.variant/float32/0": "dtype[shape] sha256 ..."}`, or the exception where the
sample is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_leaves

_SEED = 20180501


def digest(value: Any) -> str:
    """Dtype, shape and content of a tensor of any layout; other values as text."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    value = value.detach()
    if value.is_nested:
        return " ".join(digest(part) for part in value.unbind())
    if value.layout is not torch.strided:
        return f"{value.layout} {digest(value.to_dense())}"
    if value.dtype.is_complex:
        value = torch.view_as_real(value.resolve_conj())
    flat = value.resolve_neg().flatten().clone(memory_format=torch.contiguous_format)
    content = flat.view(torch.uint8).numpy(force=True).tobytes() if flat.numel() else b""
    return f"{value.dtype}{list(value.shape)} {hashlib.sha256(content).hexdigest()[:24]}"


def one(operator: Any, sample: Any, backward: bool) -> str:
    """What a sample gives: the digests of its outputs, and of the gradients of its inputs where there are any."""
    torch.manual_seed(_SEED)
    try:
        output = operator(sample.input, *sample.args, **sample.kwargs)
        gradients = _gradients(output, (sample.input, sample.args, sample.kwargs)) if backward else ()
    except Exception as error:  # the same sample must be refused in the same way on both sides
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return " ".join([*map(digest, tree_leaves(output)), "gradients", *map(digest, gradients)])


def _gradients(output: Any, inputs: Any) -> tuple[torch.Tensor | None, ...]:
    """Gradients of every dense output's sum by every input that asks for one."""
    results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    results = [leaf for leaf in results if leaf.layout is torch.strided and not leaf.is_nested]
    asking = [leaf for leaf in tree_leaves(inputs) if getattr(leaf, "requires_grad", False)]
    if not results or not asking:
        return ()
    return torch.autograd.grad(results, asking, [torch.ones_like(result) for result in results], allow_unused=True)


def main(output: str, samples: str | None = None) -> None:
    """Every operator that runs on the CPU, in float32 (with gradients) or, where it has none, its first dtype."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = {}
    for operator in op_db:
        dtypes = operator.supported_dtypes("cpu")
        if not dtypes or operator.name.startswith("jiterator"):  # for GPUs only
            continue
        dtype = torch.float32 if torch.float32 in dtypes else sorted(dtypes, key=str)[0]
        backward = dtype is torch.float32 and operator.supports_autograd
        torch.manual_seed(_SEED)
        name = f"{operator.name}.{operator.variant_test_name}".rstrip(".")
        inputs = itertools.islice(
            operator.sample_inputs("cpu", dtype, requires_grad=backward), int(samples) if samples else None
        )
        for number, sample in enumerate(inputs):
            results[f"{name}/{str(dtype).removeprefix('torch.')}/{number}"] = one(operator, sample, backward)
    Path(output).write_text(json.dumps(results, indent=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
