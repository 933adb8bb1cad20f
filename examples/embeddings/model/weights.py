"""Reading a release's weights: by memory map, without pickle, and only if they are what the network needs."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .config import WEIGHTS_FILE


def read_weights(release: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of `weights.safetensors`, mapped from the file (pages are read when they are touched).

    Raises:
        ValueError: the file is missing, broken or truncated, or its names, types, shapes or values are not the network's.
    """
    path = release / WEIGHTS_FILE
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = set(file.keys())
            for what, names in (("lacks", expected.keys() - found), ("has the unexpected", found - expected.keys())):
                if names:
                    raise ValueError(f"{path}: {what} {', '.join(sorted(names)[:5])}")
            for name, shape in expected.items():
                header = file.get_slice(name)
                if header.get_dtype() != "F32" or tuple(header.get_shape()) != shape:
                    raise ValueError(
                        f"{path}: {name} is {header.get_dtype()} {tuple(header.get_shape())}, and this network's is F32 {shape}"
                    )
            weights = {name: file.get_tensor(name) for name in expected}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    for name, tensor in weights.items():
        # A sum is NaN or infinite if any value is, and takes one pass without a copy; only a suspect is looked at in full.
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinite values")
    return weights
