"""Reads a release's weights: by memory map, without pickle, and only if they are what `model.json` says."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import WEIGHTS_FILE, Config


def read_weights(release: Path, config: Config) -> dict[str, Tensor]:
    """The tensors of `weights.safetensors`, mapped from the file: a page is read when something touches it.

    Raises:
        ValueError: the file is missing, broken or truncated, or its names, types, shapes or values are not those of
            the network that `config` describes.
    """
    path = release / WEIGHTS_FILE
    expected = config.weight_shapes()
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            _refuse_other_names(path, set(file.keys()), set(expected))
            for name, shape in expected.items():
                header = file.get_slice(name)
                found, kind = tuple(header.get_shape()), header.get_dtype()
                if kind != "F32":
                    raise ValueError(f"{path}: {name} is {kind}, but this network needs F32")
                if found != shape:
                    raise ValueError(f"{path}: {name} has shape {found}, but model.json needs {shape}")
            weights = {name: file.get_tensor(name) for name in expected}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinite values")
    return weights


def _refuse_other_names(path: Path, found: set[str], expected: set[str]) -> None:
    differences = [
        f"{what} {', '.join(sorted(names))}"
        for what, names in (("lacks", expected - found), ("has the unexpected", found - expected))
        if names
    ]
    if differences:
        raise ValueError(f"{path}: {' and '.join(differences)}")
