"""Reading a release's weights: by memory map, without pickle, and only if they are what the network needs."""

from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .config import ALIGNMENT, WEIGHTS_FILE

TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


class Weights:
    """The tensors of `weights.safetensors`, mapped from the file: their pages are read when they are touched.

    Use it with `with`. A network takes its tensors from it by name. So the network needs no memory of its own for them, and no
    tensors on the meta device. Many operators on a tensor there make the torch layer import the parts of torch that it holds
    back, which takes seconds of a cold start.

    Args:
        release: the release folder.

    Raises:
        ValueError: the file is missing, broken or truncated. At the end of the `with` block: it has tensors that nobody took.
    """

    def __init__(self, release: Path) -> None:
        self._path = release / WEIGHTS_FILE
        try:
            # Without annotations in safetensors.
            file: Any = safe_open(self._path, framework="pt", device="cpu")
            self._file, self._left = file, set(file.keys())
        except OSError as error:
            raise ValueError(f"{self._path}: cannot be read ({error.strerror or error})") from error
        except SafetensorError as error:
            raise ValueError(f"{self._path}: not a whole safetensors file ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, _error: object, _traceback: object) -> None:
        if kind is None and self._left:
            raise ValueError(f"{self._path}: has the unexpected {', '.join(sorted(self._left)[:5])}")

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor by its name.

        Norms and scales are looked at for NaN and infinite values. The large tables are not: that would read all pages before
        the first answer, and most of them hold whole numbers.

        Raises:
            ValueError: it is not there, is of another type or shape, or holds NaN or infinite values.
        """
        if name not in self._left:
            raise ValueError(f"{self._path}: lacks {name}")
        self._left.discard(name)
        # Mapped, not read: to look at a tensor itself is quicker than to ask for its header first.
        tensor: Tensor = self._file.get_tensor(name)
        if tensor.dtype != dtype or tensor.shape != shape:
            found = f"{TYPES.get(tensor.dtype, tensor.dtype)} {tuple(tensor.shape)}"
            raise ValueError(f"{self._path}: {name} is {found}, and this network's is {TYPES[dtype]} {shape}")
        small = name.endswith(("norm.weight", ".scale", ".scale_zero"))
        # A sum is NaN or infinite if any value is; only a suspect is looked at in full.
        if small and not torch.isfinite(tensor.sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            raise ValueError(f"{self._path}: {name} holds NaN or infinite values")
        # torch's 8-bit kernel ends the process with weights at odd places. A release has none there: see make_release.py.
        return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()
