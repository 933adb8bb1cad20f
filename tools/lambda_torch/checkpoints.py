"""Reads a PyTorch checkpoint without running code from it, and writes its tensors as safetensors.

`torch.save` writes a pickle, and a pickle can name any function, which is called when the pickle is read. This module
reads it with `torch.load(weights_only=True)`, whose unpickler knows only tensors and plain values. No option allows
more.
"""

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Where training code usually puts the state dict in a checkpoint: PyTorch Lightning and others; the PyTorch tutorials;
# timm.
USUAL_PLACES = ("state_dict", "model_state_dict", "model", "module", "ema")

# torch stores tensors as they are, and deflates no more than some text.
MOST_INFLATED = 16 * 1024 * 1024


class _RefusedError(Exception):
    """The file is not read at all."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        tensors: the state dict: contiguous tensors on the CPU. No two share memory.
        others: the names in the state dict whose values are not tensors.
        shared: groups of names that shared memory in the file.
        place: where in the file the state dict is. Empty if it is the whole file.
        beside: the other names beside that place (epoch, optimiser state).
    """

    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    shared: tuple[tuple[str, ...], ...]
    place: str
    beside: tuple[str, ...]


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read the state dict in a file that `torch.save` wrote.

    Args:
        path: the file. A zip file (the format of `torch.save` since PyTorch 1.6) is mapped, not read into memory.
        key: where the state dict is, as keys separated by dots. None tries the whole file, then `USUAL_PLACES`.

    Raises:
        ValueError: the file is missing or broken, names more than tensors and plain values, or has no state dict there.
    """
    loaded = _load(path)
    place, found = _state_dict(path, loaded, key)
    tensors = {name: value for name, value in found if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path}: there is no tensor{f' under {place}' if place else ''}. {_keys(loaded)}")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(
                f"{path}: {name} is {tensor.layout} {tensor.dtype} on {tensor.device}, which safetensors cannot store"
            )
    shared = _shared(tensors)
    # safetensors has no views, so a tensor that shares memory with another gets its own memory.
    apart = {name for names in shared for name in names}
    return Checkpoint(
        {
            name: (tensor.detach().clone() if name in apart else tensor.detach()).contiguous()
            for name, tensor in tensors.items()
        },
        tuple(name for name, value in found if not isinstance(value, Tensor)),
        shared,
        place,
        tuple(str(name) for name in loaded if name != place.split(".")[0]) if place else (),
    )


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, completely or not at all.

    Raises:
        OSError: it cannot be written. An earlier file is still there.
    """
    from safetensors import SafetensorError

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        new = Path(scratch, "new")
        try:
            _save(new, tensors)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        new.chmod(0o644)
        new.replace(path)


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the file so that functions of older versions take it: these judged a file by its first two bytes.

    A safetensors file begins with the length of its header. Lengths of 640, 896, 1152 and 1408 bytes (modulo 65536)
    begin as a pickle does, with 0x80 and a protocol from 2 to 5. Another entry in the metadata makes the header longer.
    """
    from safetensors.torch import save_file

    for padding in (0, 8, 16):
        metadata = {"format": "pt", **({"padding": "." * padding} if padding else {})}
        save_file(dict(tensors), path, metadata=metadata)
        with path.open("rb") as file:
            start = file.read(2)
        if start[0] != 0x80 or not 2 <= start[1] <= 5:
            return
    raise AssertionError("a longer header has another length")


def _unpacked_bytes(path: Path) -> int:
    """How many bytes the records of an archive of torch unpack to."""
    reader = torch._C.PyTorchFileReader(str(path))
    return sum(reader.get_record_size(name) for name in reader.get_all_records())


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            mapped = file.read(4) == b"PK\x03\x04"  # torch.load refuses to map its older format
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if mapped and (unpacked := _unpacked_bytes(path)) > path.stat().st_size + MOST_INFLATED:
            raise _RefusedError(f"has {path.stat().st_size} bytes and would unpack to {unpacked}: a zip bomb")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # a broken file can raise almost anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "WeightsUnpickler" in str(error) or "weights_only" in str(error).lower():
            named = next(
                (line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), ""
            )
            raise ValueError(
                f"{path}: refused, because it has more than tensors and plain values, and to read it would run code. "
                f"{named}\n"
                "Next: in the program that wrote it, save only the state dict: torch.save(model.state_dict(), 'model.pth')"
            ) from error
        raise ValueError(f"{path}: torch.save did not write this file, or it is not complete ({reason})") from error


def _state_dict(path: Path, loaded: Any, key: str | None) -> tuple[str, list[tuple[str, Any]]]:
    """Where the state dict is, and its entries."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: has a {type(loaded).__name__}, not a state dict (names with their tensors)")
    if key is not None:
        value: Any = loaded
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise ValueError(f"{path}: there is nothing under {key}. {_keys(loaded)}")
            value = value[part]
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: {key} is not a state dict")
        return key, _entries(path, value)
    if not any(isinstance(value, Tensor) for value in loaded.values()):
        for place in USUAL_PLACES:
            if isinstance(loaded.get(place), Mapping):
                inner, entries = _state_dict(path, loaded[place], None)
                return (f"{place}.{inner}" if inner else place), entries
    return "", _entries(path, loaded)


def _entries(path: Path, value: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    if odd := [name for name in value if not isinstance(name, str)]:
        raise ValueError(f"{path}: {odd[0]!r} is not the name of a tensor, so this is not a state dict")
    return list(value.items())


def _keys(loaded: Any) -> str:
    names = [str(name) for name in loaded] if isinstance(loaded, Mapping) else []
    return f"It has: {', '.join(names[:10])}" if names else "It is empty"


def _shared(tensors: Mapping[str, Tensor]) -> tuple[tuple[str, ...], ...]:
    """Groups of names whose tensors are in one storage."""
    by_storage: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    return tuple(tuple(names) for names in by_storage.values() if len(names) > 1)
