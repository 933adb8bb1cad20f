"""Files in memory: a release that goes from S3 straight into memory, with no copy on the disk.

A file in memory (memfd_create(2)) has no name. While it is open, `/proc/self/fd/N` leads to it, and a link to that stands
in the release's folder under the file's name. So a model opens and maps it as any other file. Once its content is
verified the file is sealed: nobody can change it any more, not even a process that has it open.

When the model is built the descriptors are closed. What is mapped stays in memory, and nothing else does.
"""

import contextlib
import fcntl
import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serving.releases.format import FileEntry
from serving.releases.room import MEGABYTE, MEMORY_FILE

# Smaller files are on the disk. A function may have 1,024 files open at a time, sockets included (Lambda quotas).
SMALLEST_BYTES: Final = MEGABYTE
MOST_FILES: Final = 256
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def names_in_memory(files: Mapping[str, FileEntry]) -> set[str]:
    """The files of a release that go into memory: the largest ones."""
    large = [name for name, entry in files.items() if entry.size >= SMALLEST_BYTES]
    return set(sorted(large, key=lambda name: -files[name].size)[:MOST_FILES])


class MemoryFiles:
    """The files in memory of one folder. `close`, or the end of this object, removes the folder.

    Args:
        folder: the release's folder, which belongs to this object from now on.
    """

    def __init__(self, folder: Path) -> None:
        self.descriptors: list[int] = []
        self.close = weakref.finalize(self, _give_up, folder, self.descriptors)

    def make(self, target: Path, size: int) -> int:
        """A new file of this size in bytes behind the name `target`; returns its descriptor.

        Raises:
            OSError: there is no memory, or no descriptor left.
        """
        descriptor = os.memfd_create(MEMORY_FILE, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.descriptors.append(descriptor)
        os.ftruncate(descriptor, size)
        target.symlink_to(f"/proc/self/fd/{descriptor}")
        return descriptor

    def seal(self) -> None:
        """From here on no file changes.

        Raises:
            OSError: a process has mapped one for writing.
        """
        for descriptor in self.descriptors:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def _give_up(folder: Path, descriptors: list[int]) -> None:
    # The links first: the numbers may soon lead to other files.
    shutil.rmtree(folder, ignore_errors=True)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    descriptors.clear()
