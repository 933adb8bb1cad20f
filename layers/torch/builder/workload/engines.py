"""Which engines for quantized operators work on which processors: what the workload and the checks leave out, and why."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import NamedTuple

import torch


class Unusable(NamedTuple):
    """An engine that stock torch lists as supported, and whose operators fail there."""

    machine: str  # as `uname -m` says
    engine: str
    reason: str


_NEEDS_SVE = (
    "FBGEMM has kernels for processors with SVE alone. On others, such as Graviton2 (Neoverse N1), packing int8 weights fails "
    "('unknown architecure'), and multiplying by packed float16 weights is an illegal instruction"
)
UNUSABLE = (Unusable("aarch64", "x86", _NEEDS_SVE), Unusable("aarch64", "fbgemm", _NEEDS_SVE))


def usable(*names: str) -> list[str]:
    """Those of the named engines that this torch has, and that work on this machine."""
    fails = {each.engine for each in UNUSABLE if each.machine == platform.machine()}
    return [name for name in names if name in torch.backends.quantized.supported_engines and name not in fails]


@contextlib.contextmanager
def usable_default() -> Iterator[str]:
    """torch's default engine; where that one does not work, the one that mobile models have on such processors."""
    default = torch.backends.quantized.engine
    try:
        if not usable(default):
            torch.backends.quantized.engine = "qnnpack"
        yield torch.backends.quantized.engine
    finally:
        torch.backends.quantized.engine = default
