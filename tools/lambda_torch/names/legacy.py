"""Reads the two files that the tutorial's code and the 2018 post write: a state dict and a pickle of parameters.

Both are pickles, and a pickle can name any function, which is called when the pickle is read. Here no function is
called: `torch.load(weights_only=True)` reads the state dict, and an unpickler for plain values reads the parameters.
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

# Lists, tuples, dicts, strings, bytes, numbers, booleans and None need no name in a pickle. These types do, and an
# unpickler for plain values looks up no other names.
PLAIN = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")  # the second is the name in Python 2, which protocols 0 to 2 use
    for kind in (set, frozenset, complex)
}

# The file of the post has about 300 bytes. A much larger pickle is something else.
LARGEST_PARAMETERS = 1_048_576


class Parameters(BaseModel):
    """The parameters as the 2018 post pickles them. `n_letters` includes the end marker."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    all_categories: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    n_categories: int
    all_letters: Annotated[str, Field(min_length=1)]
    n_letters: int


class PlainUnpickler(pickle.Unpickler):
    """Builds builtin containers, strings and numbers, and refuses all other names in a pickle."""

    def find_class(self, module: str, name: str) -> type:
        """The named type, if it is a plain one. Otherwise raises `pickle.UnpicklingError` and imports nothing."""
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only containers, strings and numbers are allowed"
            )
        return PLAIN[module, name]


def read_parameters(path: Path) -> Parameters:
    """Read the parameters pickle.

    Raises:
        ValueError: the file is missing, is not a pickle of plain values, has no such key, or its counts and lists
            disagree.
    """
    content = _content(path)
    if len(content) > LARGEST_PARAMETERS:
        raise ValueError(f"{path}: {len(content)} bytes are too many for parameters. Is it the state dict?")
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
    """Read a state dict that `torch.save` wrote, and run no code from it.

    Raises:
        ValueError: the file is missing, broken, or has more than named tensors.
    """
    content = _content(path)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: refused as a state dict ({reason}). Write it with torch.save(rnn.state_dict(), 'model.pth'), "
            "not from the whole network"
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
        state_dict: the file that `torch.save(rnn.state_dict(), ...)` wrote.
        parameters: the file that `pickle.dump({"all_categories": ..., ...}, ...)` wrote.
        max_length: the constant of the tutorial, which is not in the files.
        max_start_letters: the most names in one request.

    Raises:
        ValueError: a file cannot be read, or the two do not belong to one network. The message says where they
            disagree.
    """
    known, weights = read_parameters(parameters), read_state_dict(state_dict)
    if "i2h.bias" not in weights or weights["i2h.bias"].ndim != 1:
        raise ValueError(
            f"{state_dict}: it has no i2h.bias, which shows the hidden size. It has {', '.join(weights) or 'nothing'}"
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
            f"{state_dict}: it has the tensors {', '.join(weights)}, but this network has {', '.join(expected)}"
        )
    for name, shape in expected.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{state_dict}: {name} has shape {tuple(tensor.shape)}; {known.n_categories} categories and "
                f"{known.n_letters} letters, as in {parameters.name}, need {shape}"
            )
        if not tensor.is_floating_point() or tensor.is_sparse:
            raise ValueError(f"{state_dict}: {name} has {tensor.dtype}, not plain floating-point numbers")
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{state_dict}: {name} has NaN, or values too large for float32")
    return config, {name: weights[name].float().contiguous().clone() for name in expected}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
