"""A release that ended the process while it was loaded is not loaded for a third time.

After a crash Lambda starts the process again in the same environment, with /tmp as it was. Without a note the new process
would load the same release and end in the same way, again and again. So a mark is in the cache while a release is loaded.
A process holds a lock on its mark, and the kernel takes the lock away when the process ends (flock(2)): a mark without a
lock is a death.

Lambda ends a process whose start takes longer than ten seconds, and starts it again with the time of a request. That looks
like a crash and counts. So a release that was loaded well takes its deaths back: one that is only slow is never refused as
long as the second start is long enough for it.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving.errors import DeadlyReleaseError
from serving.releases import format
from serving.releases.format import ReleaseRef

FOLDER: Final = "loading"
MOST_DEATHS: Final = 2
# Then a release is tried again: what ended the process may have been something else, and environments live for hours.
FORGOTTEN_SECONDS: Final = 3600.0
_GOOD: Final = "good.json"


class DeathMarks:
    """Marks of releases that are being loaded, and the last one that was loaded well. A full disk is no error: no marks then.

    Args:
        cache: the folder of fetched releases; the marks are in a folder of their own in it.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / FOLDER

    @contextlib.contextmanager
    def loading(self, version: str) -> Iterator[None]:
        """In the body of this `with` statement the release is loaded. If the process ends in it, that is a death.

        Raises:
            DeadlyReleaseError: the release has ended the process MOST_DEATHS times already.
        """
        deaths = self.deaths(version)
        if deaths >= MOST_DEATHS:
            raise DeadlyReleaseError(
                "release_refused",
                f"Release {version} ended this environment's process {deaths} times while it was loaded, so it is not "
                f"loaded for {FORGOTTEN_SECONDS / 60:.0f} minutes. Next: publish another release, or give the function "
                "more memory or a longer timeout if the model is too large for it",
            )
        mark = self._mark(version)
        try:
            yield
        finally:
            if mark is not None:
                descriptor, path = mark
                path.unlink(missing_ok=True)
                os.close(descriptor)

    def deaths(self, version: str) -> int:
        """How often a process ended while it loaded this release."""
        return sum(self._is_dead(path) for path in self._folder.glob(f"{version}-*"))

    def remember(self, ref: ReleaseRef) -> None:
        """The release was loaded and has answered its examples: another process may fall back on it.

        Its earlier deaths do not count any more.
        """
        for path in self._folder.glob(f"{ref.version}-*"):
            if self._is_dead(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix="new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(format.dump(ref))
            Path(name).replace(self._folder / _GOOD)

    def last_good(self) -> ReleaseRef | None:
        """The release that a process of this environment loaded last; None where there is none."""
        try:
            return format.parse(ReleaseRef, (self._folder / _GOOD).read_bytes())
        except (OSError, ValueError):
            return None

    def _mark(self, version: str) -> tuple[int, Path] | None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=f"{version}-")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            return None
        return descriptor, Path(name)

    @staticmethod
    def _is_dead(path: Path) -> bool:
        """Whether the process of this mark has ended. Marks that are forgotten are removed."""
        try:
            if time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                path.unlink(missing_ok=True)
                return False
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # another process loads the release now
        finally:
            os.close(descriptor)
        return path.exists()
