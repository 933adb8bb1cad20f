"""Which parts of a tree a start reads, in the units in which Lambda loads container images.

Lambda lays the files of an image out on one file system, cuts it into chunks of 512 KiB, and loads a chunk when something
reads from it ("On-demand Container Loading in AWS Lambda", USENIX ATC 2023). So files that a start reads should lie
together.
"""

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lambda_torch.errors import LayerError

CHUNK = 512 * 1024
PAGE = mmap.PAGESIZE
# An inference that every model of torch resembles: import, a layer, a result.
START = """
import torch
lstm = torch.nn.LSTM(64, 128)
with torch.inference_mode():
    lstm(torch.ones(10, 1, 64))
"""


class TouchedTree(NamedTuple):
    """What a start read of a tree.

    Attributes:
        files: each file's size in bytes, by its path in the tree, in the order of the paths.
        pages: the numbers of the pages that were read, by path; only files of which some were.
    """

    files: Mapping[str, int]
    pages: Mapping[str, Sequence[int]]

    def order(self) -> list[str]:
        """The files that were read, and then the others."""
        return sorted(self.files, key=lambda name: (name not in self.pages, name))

    def chunks(self, order: Iterable[str] | None = None) -> int:
        """How many chunks the start reads of a file system with the files in this order; by default that of the paths."""
        touched: set[int] = set()
        offset = 0
        for name in self.files if order is None else order:
            touched.update((offset + page * PAGE) // CHUNK for page in self.pages.get(name, ()))
            offset += -(-self.files[name] // PAGE) * PAGE
        return len(touched)

    @property
    def all_chunks(self) -> int:
        """How many chunks the whole tree has."""
        return -(-sum(-(-size // PAGE) * PAGE for size in self.files.values()) // CHUNK)


def measure(tree: Path, packages: Path, interpreter: str = sys.executable) -> TouchedTree:
    """Start torch once, with nothing of the tree in the page cache, and see what is in it then.

    What the kernel reads ahead counts too, as it does on Lambda. No other process may read these files meanwhile.

    Args:
        tree: the folder that is measured.
        packages: the folder below it, or itself, that Python imports from.
        interpreter: the Python that the packages are for.

    Raises:
        LayerError: this is no Linux, or the program failed.
    """
    if not sys.platform.startswith("linux"):
        raise LayerError("What a start reads can be measured on Linux only.\nNext: leave out --measure.")
    paths = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    for path in paths:
        _evict(path)
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [interpreter, "-S", "-P", "-s", "-c", START]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise LayerError(
            f"torch does not start from {packages} with {interpreter}: {last}\n"
            "Next: name the Python that the layer is for with --python, or leave out --measure."
        )
    found = {path.relative_to(tree).as_posix(): (path.stat().st_size, _resident(path)) for path in paths}
    return TouchedTree(
        {name: size for name, (size, _) in found.items()}, {name: pages for name, (_, pages) in found.items() if pages}
    )


def _evict(path: Path) -> None:
    """Drop a file's pages from the page cache. The kernel drops only what is written to the disk already."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _resident(path: Path) -> list[int]:
    """The numbers of the pages of a file that are in the page cache (mincore(2))."""
    size = path.stat().st_size
    if not size:
        return []
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    count = -(-size // PAGE)
    vector = (ctypes.c_ubyte * count)()
    with path.open("rb") as file:
        # Python's own mmap does not tell its address for a mapping that is read only.
        where = library.mmap(
            None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0)
        )
        if where == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        try:
            if library.mincore(ctypes.c_void_p(where), ctypes.c_size_t(size), vector):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        finally:
            library.munmap(ctypes.c_void_p(where), ctypes.c_size_t(size))
    return [number for number, resident in enumerate(vector) if resident & 1]
