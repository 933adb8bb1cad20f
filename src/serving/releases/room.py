"""Whether a release fits, and where it goes, before anything of it is fetched or loaded.

The messages have the figures and name the parameter of the stack to raise.
"""

import gc
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from serving.errors import ReleaseUnavailableError

MEGABYTE = 1024 * 1024
# What a model needs beside its weights while it is built and warmed up: activations, unused parts of the heap, Python
# objects.
WORKING_BYTES = 64 * MEGABYTE
# What Python, torch and the model's code take. At a start most of it is not in memory yet.
PROCESS_BYTES = 256 * MEGABYTE
# From this size on a release goes straight into memory where it can. A smaller one costs the disk hardly any time, and is
# still there when the process starts again.
IN_MEMORY_BYTES = 64 * MEGABYTE
# The name of every file in memory (memfd_create(2)), by which its bytes are counted.
MEMORY_FILE: Final = "lambda-torch-release"

Place = Literal["memory", "disk"]


@dataclass(frozen=True)
class Room:
    """The space that a function has.

    Attributes:
        memory_bytes: of the function. None: it is not checked, and releases go to the disk.
        disk_bytes: of the folder for releases, as the stack says. None: what the disk has.
    """

    memory_bytes: int | None = None
    disk_bytes: int | None = None

    def place(self, version: str, size: int, cache: Path) -> Place:
        """Where a release of this size in bytes goes that is not in the cache yet.

        Raises:
            ReleaseUnavailableError: it does not fit. Nothing was changed.
        """
        if self.memory_bytes is not None and size + WORKING_BYTES > self.memory_bytes:
            raise ReleaseUnavailableError("release_refused", memory_problem(version, size, 0, self.memory_bytes))
        total, free = self._disk(cache)
        if (size >= IN_MEMORY_BYTES or size > free) and self._fits_into_memory(size):
            return "memory"
        if size > free:
            raise ReleaseUnavailableError("storage_unavailable", self._no_place(version, size, cache, total, free))
        return "disk"

    def check_beside(self, version: str, size: int) -> None:
        """Check that a model of so many bytes, which are not in memory yet, can be built beside those in service.

        Raises:
            ReleaseUnavailableError: it cannot. Nothing was changed.
        """
        if not self.fits_beside(size):
            raise ReleaseUnavailableError("release_refused", self.memory_problem(version, size))

    def fits_beside(self, size: int) -> bool:
        """Whether a model of so many bytes, which are not in memory yet, can be built beside what is there."""
        if self.memory_bytes is None or memory_in_use() + size + WORKING_BYTES <= self.memory_bytes:
            return True
        # Models that served before may be garbage that has not been found yet.
        gc.collect()
        return memory_in_use() + size + WORKING_BYTES <= self.memory_bytes

    def memory_problem(self, version: str, size: int) -> str:
        """Why a model cannot be built beside the models in service, with the figures and the next step."""
        return memory_problem(version, size, memory_in_use(), self.memory_bytes or 0)

    def _fits_into_memory(self, size: int) -> bool:
        # Also after all of torch is there: a file on the disk can give its memory back, and one in memory cannot.
        coming = max(0, PROCESS_BYTES - memory_in_use())
        return self.memory_bytes is not None and self.fits_beside(size + coming)

    def _disk(self, cache: Path) -> tuple[int, int]:
        """Bytes of the disk for releases, and how many of them are free."""
        usage = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir()))
        if self.disk_bytes is None:
            return usage.total, usage.free
        files = (path for path in cache.rglob("*") if path.is_file() and not path.is_symlink())
        used = sum(path.stat().st_size for path in files)
        return self.disk_bytes, min(usage.free, self.disk_bytes - used)

    def _no_place(self, version: str, size: int, cache: Path, total: int, free: int) -> str:
        disk = f"of {total // MEGABYTE} MB there {max(0, free) // MEGABYTE} MB are free beside the releases that serve"
        storage = f"the stack's parameter EphemeralStorage to at least {_megabytes(size + total - free)}"
        if self.memory_bytes is None:
            return f"Release {version} does not fit into {cache}: it has {_megabytes(size)} MB, and {disk}. Next: raise {storage}"
        used = max(memory_in_use(), PROCESS_BYTES)
        return (
            f"Release {version} fits neither into {cache} nor into memory: it has {_megabytes(size)} MB, {disk}, and of "
            f"{self.memory_bytes // MEGABYTE} MB of memory {used // MEGABYTE} MB are in use or kept for torch. Nothing was "
            f"fetched. Next: raise {storage}, or MemorySize to at least {_megabytes(used + size + WORKING_BYTES)}"
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


def memory_in_use() -> int:
    """This process's memory in bytes, with the releases in it that no code has read yet; 0 where the system does not say.

    Files in memory count whole, whether they are open or only mapped, and each one once (proc(5)).
    """
    try:
        status = Path("/proc/self/status").read_text()
        resident = sum(int(kilobytes) * 1024 for kilobytes in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", status))
        return resident + sum({**_mapped_files(), **_open_files()}.values())
    except (OSError, ValueError):
        return 0


def _open_files() -> Mapping[int, int]:
    """The open files in memory: inode and bytes."""
    found = {}
    for entry in os.scandir("/proc/self/fd"):
        try:
            if str(Path(entry.path).readlink()).startswith(f"/memfd:{MEMORY_FILE}"):
                facts = entry.stat()
                found[facts.st_ino] = facts.st_size
        except OSError:
            continue  # another thread has closed it
    return found


def _mapped_files() -> Mapping[int, int]:
    """The mapped files in memory: inode and bytes, as far as they are mapped."""
    found: dict[int, int] = {}
    with Path("/proc/self/maps").open() as lines:
        for line in lines:
            if f"/memfd:{MEMORY_FILE}" not in line:
                continue
            addresses, _, offset, _, inode, *_ = line.split()
            first, last = (int(address, 16) for address in addresses.split("-"))
            found[int(inode)] = max(found.get(int(inode), 0), int(offset, 16) + last - first)
    return found


def _megabytes(size: int) -> int:
    return -(-size // MEGABYTE)
