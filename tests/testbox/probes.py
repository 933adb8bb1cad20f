"""Functions that tell what a box is like, from inside. Each handler takes Lambda's (event, context)."""

import os
import time
from pathlib import Path
from typing import Any


def look(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Which of the event's paths exist, with their dates; the user; what /tmp holds."""
    tmp = os.statvfs("/tmp")
    return {
        "dates": {path: Path(path).stat().st_mtime for path in event["paths"] if Path(path).exists()},
        "user": [os.getuid(), os.getgid(), *os.getgroups()],
        "home": os.environ["HOME"],
        "tmp": tmp.f_blocks * tmp.f_frsize,
    }


def write(event: dict[str, Any], context: object) -> dict[str, str]:
    """What comes of making a file in each of the event's folders: "written", or the error's name."""
    outcomes = {}
    for folder in event["paths"]:
        try:
            Path(folder, "made").expanduser().write_text("")
            outcomes[folder] = "written"
        except OSError as error:
            outcomes[folder] = type(error).__name__ if error.errno != 30 else "read-only"
    return outcomes


def read(event: dict[str, Any], context: object) -> str:
    """A file's text."""
    return Path(event["path"]).read_text()


def lock(event: dict[str, Any], context: object) -> str:
    """Make a multiprocessing lock, which needs /dev/shm."""
    import multiprocessing

    return str(multiprocessing.Lock())


def allocate(event: dict[str, Any], context: object) -> int:
    """Use so many MB of memory."""
    block = bytearray(event["mb"] * 1024 * 1024)
    for place in range(0, len(block), 4096):
        block[place] = 1
    return len(block)


def fill(event: dict[str, Any], context: object) -> int:
    """Write so many MB to /tmp."""
    with Path("/tmp/filled").open("wb") as file:
        for _ in range(event["mb"]):
            file.write(b"x" * 1024 * 1024)
    return Path("/tmp/filled").stat().st_size


def burn(event: dict[str, Any], context: object) -> float:
    """Compute for so many seconds of the clock; the CPU seconds that it got."""
    end = time.monotonic() + event["seconds"]
    start = time.process_time()
    while time.monotonic() < end:
        pass
    return time.process_time() - start
