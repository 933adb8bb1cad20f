"""Reading the two files that the tutorial's code and the 2018 post leave: a state dict and a pickle of parameters.

Both are pickles, and a pickle can name any function to be called while it is read. Neither file gets to: the state dict goes
through `torch.load(weights_only=True)`, the parameters through an unpickler that knows plain values only.
"""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from model.config import Architecture, Config

# Lists, tuples, dicts, strings, bytes, numbers, booleans and None need no name in a pickle; these need theirs, and are all
# that an unpickler of plain values may look up.
PLAIN = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")  # the second is Python 2's name for it, which protocols 0 to 2 keep
    for kind in (set, frozenset, complex)
}

# The post's file has some 300 bytes; a pickle far larger is something else.
LARGEST_PARAMETERS = 1_048_576


class Parameters(BaseModel):
    """The parameters as the 2018 post pickles them; `n_letters` counts the end marker too."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    all_categories: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    n_categories: int
    all_letters: Annotated[str, Field(min_length=1)]
    n_letters: int


class PlainUnpickler(pickle.Unpickler):
    """Builds builtin containers, strings and numbers, and refuses whatever else a pickle names."""

    def find_class(self, module: str, name: str) -> type:
        """The named type, if it is a plain one; `pickle.UnpicklingError` before anything is imported, if not."""
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only containers, strings and numbers are read")
        return PLAIN[module, name]


def read_parameters(path: Path) -> Parameters:
    """Read the parameters pickle.

    Raises:
        ValueError: the file is missing, is not a pickle of plain values, lacks a key, or its counts and lists disagree.
    """
    content = _content(path)
    if len(content) > LARGEST_PARAMETERS:
        raise ValueError(f"{path}: {len(content)} bytes is too large for parameters; is it the state dict?")
    try:
        plain = PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle can raise almost anything
        raise ValueError(f"{path}: refused as a pickle of plain values: {error or type(error).__name__}") from error
    try:
        parameters = Parameters.model_validate(plain)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise ValueError(f"{path}: {places}") from None
    for count, counted, length in (
        ("n_categories", "all_categories", len(parameters.all_categories)),
        ("n_letters", "all_letters and the end marker", len(parameters.all_letters) + 1),
    ):
        if getattr(parameters, count) != length:
            raise ValueError(f"{path}: {count} is {getattr(parameters, count)}, but {counted} make {length}")
    return parameters


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict that `torch.save` wrote, and run none of it.

    Raises:
        ValueError: the file is missing, broken, or holds anything but named tensors.
    """
    content = _content(path)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: refused as a state dict ({reason}). It is made with torch.save(rnn.state_dict(), 'model.pth'), "
            "and not from the whole network"
        ) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise ValueError(f"{path}: not a state dict (names with their tensors)")
    return dict(loaded)


def convert(
    state_dict: Path, parameters: Path, *, max_length: int = 20, max_start_letters: int = 64
) -> tuple[Config, dict[str, Tensor]]:
    """The same model as a release: its `model.json`, and its weights as float32.

    Args:
        state_dict: what `torch.save(rnn.state_dict(), ...)` wrote.
        parameters: what `pickle.dump({"all_categories": ..., ...}, ...)` wrote.
        max_length: the tutorial's constant; the files do not have it.
        max_start_letters: how many names a request may ask for.

    Raises:
        ValueError: a file cannot be read, or the two are not of one network; the message says where they disagree.
    """
    known, weights = read_parameters(parameters), read_state_dict(state_dict)
    if "i2h.bias" not in weights or weights["i2h.bias"].ndim != 1:
        raise ValueError(
            f"{state_dict}: no i2h.bias, which tells the hidden size; it has {', '.join(weights) or 'nothing'}"
        )
    try:
        config = Config(
            architecture=Architecture(hidden_size=len(weights["i2h.bias"])),
            categories=known.all_categories,
            letters=known.all_letters,
            max_length=max_length,
            max_start_letters=max_start_letters,
            training={"source": f"{state_dict.name} and {parameters.name}"},
        )
    except ValidationError as error:
        raise ValueError("; ".join(each["msg"] for each in error.errors(include_url=False))) from None
    expected = config.weight_shapes()
    if weights.keys() != expected.keys():
        raise ValueError(
            f"{state_dict}: has the tensors {', '.join(weights)}; this network's are {', '.join(expected)}"
        )
    for name, shape in expected.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{state_dict}: {name} has shape {tuple(tensor.shape)}; {known.n_categories} categories and "
                f"{known.n_letters} letters, as in {parameters.name}, need {shape}"
            )
        if not tensor.is_floating_point() or tensor.is_sparse:
            raise ValueError(f"{state_dict}: {name} holds {tensor.dtype}, not plain floating-point numbers")
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{state_dict}: {name} holds NaN, or values too large for float32")
    return config, {name: weights[name].float().contiguous().clone() for name in expected}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
