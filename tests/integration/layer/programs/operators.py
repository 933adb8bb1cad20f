"""Run PyTorch's own operator database and write a digest of every output, forward and backward.

    python operators.py OUTPUT.json                                          # float32, or the first dtype that there is
    python operators.py OUTPUT.json --dtypes float64 bool --samples 10       # 10 of each operator and dtype
    python operators.py OUTPUT.json --share 0/8                              # every eighth operator, from the first one on

`OUTPUT.json` has one entry a sample: `{"operator.variant/float32/0": "dtype[shape] sha256 ..."}`, or the exception where the
sample is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
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


def main() -> None:
    """Every operator that runs on the CPU, with gradients where it has some."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtypes", nargs="+", help="float32 if left out, or the operator's first dtype")
    parser.add_argument("--samples", type=int, help="of each operator and dtype; all of them if left out")
    parser.add_argument("--share", default="0/1", help="which operators: FIRST/STEP")
    arguments = parser.parse_args()
    wanted = [getattr(torch, name) for name in arguments.dtypes or ()]
    first, step = map(int, arguments.share.split("/"))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results: dict[str, str] = {}
    for operator in op_db[first::step]:
        dtypes = operator.supported_dtypes("cpu")
        if not dtypes or operator.name.startswith("jiterator"):  # for GPUs only
            continue
        usual = torch.float32 if torch.float32 in dtypes else sorted(dtypes, key=str)[0]
        for dtype in [dtype for dtype in wanted if dtype in dtypes] if wanted else [usual]:
            run(operator, dtype, arguments.samples, results)
    arguments.output.write_text(json.dumps(results, indent=0))


def run(operator: Any, dtype: torch.dtype, samples: int | None, results: dict[str, str]) -> None:
    """Put the digests of an operator's samples into the results."""
    differentiable = dtype.is_floating_point or dtype.is_complex
    backward = differentiable and operator.supports_autograd
    name = f"{operator.name}.{operator.variant_test_name}".rstrip(".")
    torch.manual_seed(_SEED)
    inputs = itertools.islice(operator.sample_inputs("cpu", dtype, requires_grad=backward), samples)
    for number in itertools.count():
        key = f"{name}/{str(dtype).removeprefix('torch.')}/{number}"
        try:
            sample = next(inputs)
        except StopIteration:
            break
        except Exception as error:  # the database cannot make samples of this dtype
            results[key] = f"no samples: {type(error).__name__}"
            break
        results[key] = one(operator, sample, backward)


if __name__ == "__main__":
    main()
