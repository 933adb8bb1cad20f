"""Where releases are read: a channel's pointer and the releases it names, live or ahead of time.

`ChannelReader` reads S3 when it is asked. `ReadAhead` does the same while the model's code is being imported, and then
gives what it read. Both have the two methods of `ReleaseSource`, so code that loads a release need not know which one
it has.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.errors import ReleaseUnavailableError
from serving.releases import screening
from serving.releases.format import Manifest, ReleaseRef
from serving.releases.store import FetchedRelease, PointerState, ReleaseStore
from serving.telemetry import receipts


@dataclass(frozen=True)
class PreparedRelease:
    """A release on this machine, with every file verified. The next step is to build its model.

    Attributes:
        ref: the release.
        manifest: its manifest.
        fetched: where its files are.
    """

    ref: ReleaseRef
    manifest: Manifest
    fetched: FetchedRelease

    @property
    def folder(self) -> Path:
        """The folder that the model is loaded from."""
        return self.fetched.folder

    @property
    def descriptors(self) -> Sequence[int]:
        """The open files in memory that the folder's links lead to."""
        return () if self.fetched.files is None else self.fetched.files.descriptors

    @property
    def more_bytes(self) -> int:
        """How many bytes more its weights take in memory once the model is built."""
        return self.manifest.size if self.fetched.files is None else 0

    def close(self) -> None:
        """Let go of what is in memory and not used by a model. The folder is gone then, unless it is in the cache."""
        if self.fetched.files is not None:
            self.fetched.files.close()


class ReleaseSource(Protocol):
    """Gives a channel's pointer, and releases that are ready to load."""

    def pointer(self, etag: str | None) -> PointerState | None:
        """The channel's pointer; None where it still has this ETag.

        Raises:
            ReleaseUnavailableError: it cannot be read, or is not of this format.
        """
        ...

    def prepare(self, ref: ReleaseRef, *, beside: bool = False) -> PreparedRelease:
        """Bring a release to this machine and verify it.

        Args:
            beside: whether its model must be built beside those in service. If there is no memory for that, nothing is
                fetched.

        Raises:
            ReleaseUnavailableError: a part of it cannot be read, or may not be used.
        """
        ...


class ChannelReader:
    """Reads a channel and its releases from S3.

    Args:
        open_store: makes the store, with the credentials of the moment. It is called at the first read, and at the
            first one after `close`. Raises ReleaseUnavailableError where there is no bucket.
        channel: the channel's name.
        allow_programs: whether a release may hold programs.

    Attributes:
        step: what was begun last, for people.
    """

    def __init__(self, open_store: Callable[[], ReleaseStore], channel: str, *, allow_programs: bool = False) -> None:
        self.channel = channel
        self.step = "the start"
        self._allow_programs = allow_programs
        self._open_store = open_store
        self._opened: ReleaseStore | None = None

    def pointer(self, etag: str | None) -> PointerState | None:
        """As `ReleaseSource.pointer`."""
        self.step = f"reading the channel {self.channel!r}"
        store = self._store()
        with receipts.phase("pointer"):
            return store.channel(self.channel, etag)

    def prepare(self, ref: ReleaseRef, *, beside: bool = False) -> PreparedRelease:
        """As `ReleaseSource.prepare`."""
        store = self._store()
        self.step = f"reading the manifest of release {ref.version}"
        with receipts.phase("pointer"):
            manifest = store.manifest(ref)
        self.step = f"fetching release {ref.version} ({manifest.size} bytes)"
        with receipts.phase("fetch"):
            prepared = PreparedRelease(ref, manifest, store.fetch(manifest, beside=beside))
        try:
            with receipts.phase("verify"):
                screening.check(prepared.folder, manifest.files, allow_programs=self._allow_programs)
        except ValueError as error:
            prepared.close()
            raise ReleaseUnavailableError("release_refused", f"Release {ref.version}: {error}") from error
        self.step = f"loading release {ref.version}"
        return prepared

    def keep_only(self, versions: Collection[str]) -> None:
        """As `ReleaseCache.keep_only`."""
        self._store().cache.keep_only(versions)

    def reading(self) -> AbstractContextManager[None]:
        """As `ReleaseCache.reading`."""
        return self._store().cache.reading()

    def close(self) -> None:
        """Give up connections and credentials."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _store(self) -> ReleaseStore:
        if self._opened is None:
            with receipts.phase("client"):
                self._opened = self._open_store()
        return self._opened


class ReadAhead:
    """Reads a channel and its current release in a thread, while this thread imports the model's code.

    Args:
        reader: reads, and is asked again for what was not read ahead.
    """

    def __init__(self, reader: ChannelReader) -> None:
        self._reader = reader
        self._state: PointerState | None = None
        self._prepared: PreparedRelease | None = None
        self._problem: Exception | None = None
        self._began = time.monotonic()
        run = contextvars.copy_context().run  # so that the thread's phases go to the receipt that is open here
        self._thread = threading.Thread(target=run, args=(self._read,), name="release-ahead", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the thread to end, until it has run for so long. Returns whether it has ended."""
        self._thread.join(max(0.0, self._began + seconds - time.monotonic()))
        return not self._thread.is_alive()

    def pointer(self, etag: str | None) -> PointerState | None:
        """As `ReleaseSource.pointer`, as it was when the thread read it."""
        self._thread.join()
        if self._state is None and self._problem is not None:
            raise self._problem
        return None if self._state is None or self._state.etag == etag else self._state

    def prepare(self, ref: ReleaseRef, *, beside: bool = False) -> PreparedRelease:
        """As `ReleaseSource.prepare`."""
        self._thread.join()
        if self._state is None or self._state.channel.current != ref:
            return self._reader.prepare(ref, beside=beside)
        if self._problem is not None:
            raise self._problem
        # Another process of this machine may have removed it from the cache since, and files in memory are used once.
        prepared, self._prepared = self._prepared, None
        if prepared is None or not prepared.folder.is_dir():
            return self._reader.prepare(ref, beside=beside)
        return prepared

    def _read(self) -> None:
        try:
            self._state = self._reader.pointer(None)
            if self._state is not None:
                self._prepared = self._reader.prepare(self._state.channel.current)
        except Exception as error:
            # It is raised where it would have happened without the thread.
            self._problem = error
