"""Whether a release fits, before anything of it is fetched or loaded.

The messages have the figures and name the parameter of the stack to raise.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ReleaseUnavailableError

MEGABYTE = 1024 * 1024
# What a model needs beside its weights while it is built and warmed up: activations, unused parts of the heap, Python
# objects.
WORKING_BYTES = 64 * MEGABYTE


@dataclass(frozen=True)
class Room:
    """The space that a function has.

    Attributes:
        memory_bytes: of the function. None: it is not checked.
        disk_bytes: of the folder for releases, as the stack says. None: what the disk has.
    """

    memory_bytes: int | None = None
    disk_bytes: int | None = None

    def check(self, version: str, size: int, cache: Path) -> None:
        """Check that a release of this size in bytes, which is not in the cache yet, fits into it and into memory.

        Raises:
            ReleaseUnavailableError: it does not fit. Nothing was changed.
        """
        if self.memory_bytes is not None and size + WORKING_BYTES > self.memory_bytes:
            raise ReleaseUnavailableError("release_refused", memory_problem(version, size, 0, self.memory_bytes))
        usage = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir()))
        total, free = usage.total, usage.free
        if self.disk_bytes is not None:
            used = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
            total, free = self.disk_bytes, min(free, self.disk_bytes - used)
        if size > free:
            raise ReleaseUnavailableError(
                "storage_unavailable",
                f"Release {version} does not fit into {cache}: it has {_megabytes(size)} MB, and of "
                f"{total // MEGABYTE} MB {max(0, free) // MEGABYTE} MB are free beside the releases that serve. Nothing "
                "was fetched. Next: raise the stack's parameter EphemeralStorage to at least "
                f"{_megabytes(size + total - free)}",
            )


def memory_problem(version: str, size: int, used: int, memory_bytes: int) -> str:
    """What to say where a model of this size does not fit into memory beside what is used; all in bytes."""
    needed = size + used + WORKING_BYTES
    beside = f" beside the {used // MEGABYTE} MB in use" if used else ""
    return (
        f"Release {version} does not fit into memory{beside}: it has {_megabytes(size)} MB, building it takes about "
        f"{WORKING_BYTES // MEGABYTE} MB more, and the function has {memory_bytes // MEGABYTE} MB. Next: raise the "
        f"stack's parameter MemorySize to at least {_megabytes(needed)}"
    )


def _megabytes(size: int) -> int:
    return -(-size // MEGABYTE)
