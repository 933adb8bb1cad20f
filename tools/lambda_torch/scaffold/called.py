"""Calls a network once with zeros, to learn what it gives: the part that programs and state dicts share."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lambda_torch.errors import ProjectError
from lambda_torch.scaffold.blueprints import Blueprint, png_of, requirement

if TYPE_CHECKING:
    import torch

# Larger inputs are not written as lists of numbers: 3 x 224 x 224 of them would be a megabyte of JSON.
MOST_NUMBERS = 4096
_MODES = {1: "L", 3: "RGB"}


class CallShape(NamedTuple):
    """What a network takes and gives, without the batch.

    Attributes:
        several: whether it takes several inputs at once.
    """

    shape: tuple[int, ...]
    dtype: str
    output_shape: tuple[int, ...]
    output_dtype: str
    several: bool


def signature(network: "torch.nn.Module", shape: tuple[int, ...], dtype: "torch.dtype", source: str) -> CallShape:
    """Call the network with a batch of one, and of two.

    Raises:
        ProjectError: it does not take such an input, or gives no tensor.
    """
    import torch

    try:
        with torch.inference_mode():
            output = network(torch.zeros(1, *shape, dtype=dtype))
    except Exception as error:
        raise ProjectError(
            f"{source} cannot be called with numbers of the shape {list(shape)} ({dtype}): {_first_line(error)}\n"
            "Next: give the shape of one input, without the batch, as --input, such as --input 3,224,224."
        ) from error
    if not isinstance(output, torch.Tensor) or output.shape[:1] != (1,):
        given = (
            f"a tensor of the shape {list(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        )
        raise ProjectError(
            f"{source} gives {given}, not one tensor with the batch first. "
            "Next: export a network that returns one tensor, or use lambda-torch init --kind and write Model.predict."
        )
    try:
        with torch.inference_mode():
            several = network(torch.zeros(2, *shape, dtype=dtype)).shape == (2, *output.shape[1:])
    except Exception:
        several = False
    return CallShape(shape, _name(dtype), tuple(output.shape[1:]), _name(output.dtype), several)


def blueprint(
    seen: CallShape,
    *,
    what: str,
    imports: str,
    load: str,
    release: Mapping[str, Path],
    modules: Mapping[str, Path] | None = None,
    allow_programs: bool = False,
) -> Blueprint:
    """The project for a network that was called.

    Args:
        seen: what it takes and gives.
        what: one sentence about it, for the docstring.
        imports: lines for the head of the module.
        load: the lines of `Model.load`.
        release: the files of the release.
        modules: files for the package.
        allow_programs: whether the stack must take programs.
    """
    call = "self.network(inputs)"
    if not seen.several:
        call = "torch.cat([self.network(each[None]) for each in inputs])  # it takes one input at a time"
    values = {
        "WHAT": what,
        "IMPORTS": f"{imports}\n" if imports else "",
        "LOAD": "\n".join(f"        {line}" for line in load.splitlines()),
        "CALL": call,
        "SHAPE": str(seen.shape),
        "DTYPE": seen.dtype,
        "OUTPUT_SHAPE": str(seen.output_shape),
        "OUTPUT_DTYPE": seen.output_dtype,
    }
    count = 1
    for length in seen.shape:
        count *= length
    if count > MOST_NUMBERS and len(seen.shape) == 3 and seen.shape[0] in _MODES and seen.dtype == "float32":
        mode, height, width = _MODES[seen.shape[0]], *seen.shape[1:]
        values |= {"MODE": mode, "HEIGHT": str(height), "WIDTH": str(width)}
        return Blueprint(
            "picture",
            {"image": png_of("red")},
            values,
            (requirement("pillow"),),
            release,
            modules or {},
            allow_programs,
        )
    example: object = 0.0 if seen.dtype.startswith("float") else 0
    for length in reversed(seen.shape):
        example = [example] * length
    return Blueprint("array", {"input": example}, values, (), release, modules or {}, allow_programs)


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
