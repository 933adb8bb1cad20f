"""The folder of fetched releases on the disk: what stays in it, and that nothing goes while it is being read."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from serving.releases import deaths

# A folder of an unfinished fetch, or of a release in memory, may still be in use for this long; after that it is rubbish.
STALE_SECONDS: Final = 3600
STAGING: Final = "fetching-"
_LOCK: Final = "lock"


class ReleaseCache:
    """The folder of fetched releases. Several processes may use it.

    Args:
        folder: it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep_only(self, versions: Collection[str]) -> None:
        """Remove every other release, and what interrupted fetches left more than STALE_SECONDS ago.

        A process that still maps a removed file goes on reading it: the file goes when the last process closes it.
        While another process builds a model from the cache (`reading`), nothing is removed; a later call removes it.
        """
        with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            for path in self._folder.iterdir() if alone else ():
                if path.name in versions or path.name in (_LOCK, deaths.FOLDER):
                    continue
                if path.name.startswith(STAGING) and _age(path) < STALE_SECONDS:
                    continue
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In the body of this `with` statement, no process removes anything."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _locked(self, operation: int) -> Iterator[bool]:
        """Hold the folder's lock (flock(2)). Gives False where another process has it, or the disk is full."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False
            return
        try:
            try:
                fcntl.flock(descriptor, operation)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
