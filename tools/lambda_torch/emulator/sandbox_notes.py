"""Tells a developer when the model uses what this machine has and Lambda's sandbox has not.

`bootstrap` loads this file by its path into the function's process. Lambda has no /dev/shm. So locks between processes
(multiprocessing, DataLoader with workers, process pools) and named shared memory raise an error there.
"""

import importlib
import sys
from typing import Any

NOTE = (
    "NOTE: the model uses {what}. It works on this machine, but Lambda has no /dev/shm, so there it raises {error}. "
    "Next: {instead}.\n"
)


def install() -> None:
    """Put a note before the first lock between processes, and before the first shared memory."""
    _multiprocessing: Any = importlib.import_module("_multiprocessing")

    own = _multiprocessing.SemLock

    class SemLock(own):  # type: ignore[misc, valid-type]  # a class of C
        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            _tell(
                "a lock or a queue between processes (DataLoader with num_workers, a process pool, multiprocessing)",
                "OSError: [Errno 38] Function not implemented",
                "use num_workers=0, and threads (concurrent.futures.ThreadPoolExecutor) in the place of processes",
            )
            return own.__new__(own, *arguments, **named)

    _multiprocessing.SemLock = SemLock
    try:
        _posixshmem: Any = importlib.import_module("_posixshmem")
    except ImportError:  # this system has none
        return
    shm_open: Any = _posixshmem.shm_open

    def noted(*arguments: Any, **named: Any) -> Any:
        _tell(
            "shared memory (multiprocessing.shared_memory)",
            "FileNotFoundError",
            "pass arrays inside one process, or write a file below /tmp and map it",
        )
        return shm_open(*arguments, **named)

    _posixshmem.shm_open = noted


_told: set[str] = set()


def _tell(what: str, error: str, instead: str) -> None:
    if what not in _told:
        _told.add(what)
        sys.stderr.write(NOTE.format(what=what, error=error, instead=instead))
        sys.stderr.flush()
