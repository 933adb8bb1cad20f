"""Reading a release's weights: by memory map, without pickle, and only if they are what the network needs."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .config import ALIGNMENT, WEIGHTS_FILE

TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


def read_weights(release: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of `weights.safetensors`, mapped from the file (pages are read when they are touched).

    Norms and scales are looked at for NaN and infinite values. The large tables are not: that would read all pages before the
    first answer, and most of them hold whole numbers.

    Raises:
        ValueError: the file is missing, broken or truncated, or its names, types or shapes are not the network's.
    """
    path = release / WEIGHTS_FILE
    expected = {name: (TYPES[each.dtype], tuple(each.shape)) for name, each in network.state_dict().items()}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = set(file.keys())
            for what, names in (("lacks", expected.keys() - found), ("has the unexpected", found - expected.keys())):
                if names:
                    raise ValueError(f"{path}: {what} {', '.join(sorted(names)[:5])}")
            for name, wanted in expected.items():
                header = file.get_slice(name)
                there = (header.get_dtype(), tuple(header.get_shape()))
                if there != wanted:
                    raise ValueError(
                        f"{path}: {name} is {there[0]} {there[1]}, and this network's is {wanted[0]} {wanted[1]}"
                    )
            weights = {name: file.get_tensor(name) for name in expected}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    for name, tensor in weights.items():
        small = name.endswith(("norm.weight", ".scale", ".scale_zero"))
        # A sum is NaN or infinite if any value is; only a suspect is looked at in full.
        if small and not torch.isfinite(tensor.sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinite values")
    # torch's 8-bit kernel ends the process with weights at odd places. A release has none there: see make_release.py.
    return {name: tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone() for name, tensor in weights.items()}
