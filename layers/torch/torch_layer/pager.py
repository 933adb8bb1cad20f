"""What the pager did in this process, and what a program may ask of it.

Example:
    >>> from torch_layer import pager
    >>> pager.stats()
    PagerStats(faults=24, blocks=24, bytes=5242880, microseconds=9120, waits=0, libraries=3, guarded=True, recovered=0)
"""

import ctypes
import os
from typing import NamedTuple

from torch_layer import PAGER_LIBRARY

_LIBRARY = f"{os.path.dirname(os.path.abspath(__file__))}/{PAGER_LIBRARY}"  # noqa: PTH100, PTH120  pathlib is slow


class PagerStats(NamedTuple):
    """Counters since the process began; a forked child goes on from its parent's.

    Attributes:
        faults: Touches of cold code that brought a block in.
        blocks: Blocks brought in, by a touch or by `load_all`.
        bytes: Their bytes in memory.
        microseconds: Time that the touching threads spent on it, in all.
        waits: Touches that waited for another thread which was bringing the same block.
        libraries: Split libraries in this process.
        guarded: Whether later SIGSEGV handlers cannot displace the pager's (DESIGN.md, "Later handlers").
        recovered: How often the handler had to be put back all the same.
    """

    faults: int
    blocks: int
    bytes: int
    microseconds: int
    waits: int
    libraries: int
    guarded: bool
    recovered: int


class _PagerCounters(ctypes.Structure):
    """`struct torch_layer_pager_stats` of pager/pager.h."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("faults", "blocks", "bytes", "nanoseconds", "waits", "libraries", "guarded", "recovered")
    )


def _loaded() -> ctypes.CDLL | None:
    """The pager, if a split library has brought it into this process. This never loads it."""
    try:
        return ctypes.CDLL(_LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None


def stats() -> PagerStats:
    """The counters; all zero where no split library is loaded yet."""
    library, counters = _loaded(), _PagerCounters()
    if library is not None:
        library.torch_layer_pager_stats(ctypes.byref(counters))
    return PagerStats(
        counters.faults,
        counters.blocks,
        counters.bytes,
        counters.nanoseconds // 1000,
        counters.waits,
        counters.libraries,
        bool(counters.guarded),
        counters.recovered,
    )


def load_all() -> PagerStats:
    """Bring in all cold code of the libraries that are loaded, so that no later touch has to wait: before a snapshot, say.

    Returns:
        The counters afterwards.
    """
    library = _loaded()
    if library is not None:
        library.torch_layer_pager_load_all()
    return stats()


def trim() -> None:
    """Unmap the libraries' pages that are as in their files; what is touched again is mapped again, from the page cache.

    The layer does this when torch's libraries are loaded, since much of them is only needed for that.
    """
    library = _loaded()
    if library is not None:
        library.torch_layer_pager_trim()


def check() -> bool:
    """Put the pager's handler back if something went round the guard; True if that was needed."""
    library = _loaded()
    return library is not None and bool(library.torch_layer_pager_check())
