"""Notices when files of the function are saved, so that a run can restart the function."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from lambda_torch.errors import EmulatorError

# Editors and version control write several files for one save or checkout. They count as one change.
SETTLED_SECONDS = 0.15
# The system also reports the reading of a file.
_CHANGES = frozenset({"created", "modified", "moved", "deleted"})


class Watch(FileSystemEventHandler):
    """Watches folders and all folders below them while the block lasts.

    Hidden files, bytecode and editors' backups (`name~`) do not count.

    Raises:
        EmulatorError: the system allows this user no more watched folders.

    Example:
        with Watch([Path("src")]) as watch:
            print(watch.changed(60.0))  # {PosixPath('/.../src/app.py')}, or an empty set after a minute
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._lock = threading.Lock()
        self._paths: set[Path] = set()
        self._any = threading.Event()
        self._observer = Observer()

    def __enter__(self) -> Self:
        """Begin to watch."""
        for folder in self._folders:
            self._observer.schedule(self, str(folder), recursive=True)
        try:
            self._observer.start()
        except OSError as error:
            raise EmulatorError(
                f"Changes below {' and '.join(map(str, self._folders))} cannot be watched: {error.strerror or error}. "
                "Next: raise fs.inotify.max_user_watches and max_user_instances (sysctl), or restart the command after a change."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """The observer calls it, in its thread."""
        if event.event_type not in _CHANGES or event.is_directory:
            return
        paths = {Path(name) for name in (event.src_path, event.dest_path) if name and self._counts(Path(name))}
        if paths:
            with self._lock:
                self._paths |= paths
            self._any.set()

    def _counts(self, path: Path) -> bool:
        folder = next((folder for folder in self._folders if path.is_relative_to(folder)), None)
        if folder is None or path.name.endswith("~"):
            return False
        return not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)

    def changed(self, seconds: float) -> set[Path]:
        """The files that changed since the last call. Waits up to `seconds` for a change, and until changes stop."""
        if not self._any.wait(seconds):
            return set()
        while self._any.is_set():
            self._any.clear()
            time.sleep(SETTLED_SECONDS)
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths
