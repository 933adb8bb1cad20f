"""Reads a bucket of releases: channels, manifests, and files, which come into a local cache and are verified there."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from serving.errors import ReleaseUnavailableError
from serving.releases import deaths, download, format
from serving.releases.format import (
    MANIFEST_NAME,
    MAX_DOCUMENT_BYTES,
    Channel,
    Manifest,
    ReleaseRef,
    channel_key,
    file_key,
)
from serving.settings import AwsEnvironment, Settings
from serving.storage import signed
from serving.storage.deadline import Deadline
from serving.storage.objects import DOCUMENT_SECONDS, FetchError, NotModified, Objects, read_small

# A folder of an unfinished fetch may still be in use for this long; after that it is rubbish.
STALE_SECONDS = 3600
_STAGING = "fetching-"
_LOCK = "lock"


@dataclass(frozen=True)
class PointerState:
    """A channel as it was read, with its ETag, which shows whether it has changed since."""

    channel: Channel
    etag: str


def open_store(settings: Settings) -> "ReleaseStore":
    """The store of the function's bucket, with the credentials that the environment has now.

    Raises:
        ReleaseUnavailableError: `no_bucket`.
    """
    if settings.bucket is None:
        raise ReleaseUnavailableError(
            "no_bucket",
            "The function has no bucket to read releases from. Next: set its variable MODEL_BUCKET to a bucket's name.",
        )
    objects = signed.open_objects(AwsEnvironment.from_environment())
    return ReleaseStore(
        objects,
        settings.bucket,
        settings.cache,
        settings.fetch_seconds,
        document_seconds=settings.document_seconds,
        signers=settings.release_signers,
    )


class ReleaseStore:
    """Reads a bucket.

    Args:
        objects: S3.
        bucket: the bucket's name.
        cache: local folder for fetched releases; it is made when it is needed.
        fetch_seconds: how long fetching one release may take in all.
        document_seconds: how long reading a pointer or a manifest may take in all.
        signers: the public keys, one of which must have signed a release. Empty: no signature is needed.
    """

    def __init__(
        self,
        objects: Objects,
        bucket: str,
        cache: Path,
        fetch_seconds: float,
        *,
        document_seconds: float = DOCUMENT_SECONDS,
        signers: Sequence[str] = (),
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._cache = cache
        self._fetch_seconds = fetch_seconds
        self._document_seconds = document_seconds
        self._signers = signers

    def channel(self, name: str, etag: str | None = None) -> PointerState | None:
        """The channel's pointer; None where it still has the given ETag (one conditional GET, RFC 9110 section 13.1.2).

        Raises:
            ReleaseUnavailableError: `no_release` (there is no such channel), `release_refused`, or
                `storage_unavailable`.
        """
        key = channel_key(name)
        try:
            content, found = self._document(key, etag)
            return PointerState(format.parse(Channel, content), found)
        except NotModified:
            return None
        except FileNotFoundError:
            raise ReleaseUnavailableError(
                "no_release",
                f"The channel {name!r} has no release yet. "
                f"Publish one: lambda-torch publish FOLDER --bucket {self._bucket}",
            ) from None
        except ValueError as error:
            raise ReleaseUnavailableError("release_refused", f"{key} is not of this format: {error}") from None
        except FetchError as error:
            raise ReleaseUnavailableError("storage_unavailable", str(error)) from error

    def manifest(self, ref: ReleaseRef) -> Manifest:
        """The manifest that a pointer names. Where there are signers, the signature is verified first.

        Raises:
            ReleaseUnavailableError: `release_refused` with the reason, or `storage_unavailable`.
        """
        if self._signers:
            from serving.releases import signing

            signing.check(self._objects, self._bucket, ref, self._signers)
        key = file_key(ref.version, MANIFEST_NAME)
        try:
            content, _ = self._document(key)
        except FileNotFoundError:
            raise ReleaseUnavailableError(
                "release_refused", f"{key} is missing, but the channel names this release"
            ) from None
        except ValueError as error:
            raise ReleaseUnavailableError("release_refused", f"{key} is not of this format: {error}") from None
        except FetchError as error:
            raise ReleaseUnavailableError("storage_unavailable", str(error)) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != ref.manifest_sha256:
            raise ReleaseUnavailableError(
                "release_refused", f"{key} has SHA-256 {digest}, but the channel says {ref.manifest_sha256}"
            )
        try:
            manifest = format.parse(Manifest, content)
        except ValueError as error:
            raise ReleaseUnavailableError("release_refused", f"{key} is not of this format: {error}") from None
        if manifest.version != ref.version:
            raise ReleaseUnavailableError("release_refused", f"{key} describes another release, {manifest.version}")
        return manifest

    def fetch(self, manifest: Manifest) -> Path:
        """Bring a release's files into the cache, verify each one, and return their folder.

        The folder appears by one rename after everything in it was verified, so another process, or a later start,
        never finds half a release. A folder that exists already is verified again, since other programs can write to
        /tmp.

        Raises:
            ReleaseUnavailableError: `release_refused` with the object and the reason, or `storage_unavailable`.
        """
        folder = self._cache / manifest.version
        if _is_complete(folder, manifest):
            return folder
        staging: Path | None = None
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=self._cache, prefix=_STAGING))
            deadline = Deadline(self._fetch_seconds)
            for name, entry in manifest.files.items():
                target = staging / PurePosixPath(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_file(file_key(manifest.version, name), entry, target, deadline)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                staging.rename(folder)
            except OSError:
                # Another process of this machine was faster. What it made counts only if every file is right.
                if not _is_complete(folder, manifest):
                    raise
        except OSError as error:
            raise ReleaseUnavailableError(
                "storage_unavailable",
                f"Cannot write the release ({manifest.size} bytes) to {self._cache}: {error.strerror or error}",
            ) from error
        finally:
            if staging is not None:
                shutil.rmtree(staging, ignore_errors=True)
        return folder

    def close(self) -> None:
        """Give up connections and credentials. The next read gets new ones."""
        self._objects.close()

    def _document(self, key: str, etag: str | None = None) -> tuple[bytes, str]:
        """A pointer's or a manifest's content, and its ETag. Raises as `read_small`."""
        deadline = Deadline(self._document_seconds)
        return read_small(self._objects, self._bucket, key, MAX_DOCUMENT_BYTES, etag, deadline)

    def _fetch_file(self, key: str, entry: format.FileEntry, target: Path, deadline: Deadline) -> None:
        try:
            digest = download.fetch(self._objects, self._bucket, key, entry.size, target, deadline)
        except FileNotFoundError:
            raise ReleaseUnavailableError("release_refused", f"{key} is missing, but the manifest lists it") from None
        except FetchError as error:
            code = "storage_unavailable" if error.retryable else "release_refused"
            raise ReleaseUnavailableError(code, str(error)) from error
        if digest != entry.sha256:
            raise ReleaseUnavailableError(
                "release_refused", f"{key} has SHA-256 {digest}, but the manifest says {entry.sha256}"
            )

    def keep_only(self, versions: Collection[str]) -> None:
        """Remove every other release from the cache, and what interrupted fetches left more than STALE_SECONDS ago.

        A process that still maps a removed file goes on reading it: the file goes when the last process closes it.
        While another process builds a model from the cache (`reading`), nothing is removed; a later call removes it.
        """
        with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            for path in self._cache.iterdir() if alone else ():
                if path.name in versions or path.name in (_LOCK, deaths.FOLDER):
                    continue
                if path.name.startswith(_STAGING) and _age(path) < STALE_SECONDS:
                    continue
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In the body of this `with` statement, no process removes anything from the cache."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _locked(self, operation: int) -> Iterator[bool]:
        """Hold the cache's lock (flock(2)). Gives False where another process has it, or the disk is full."""
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._cache / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _is_complete(folder: Path, manifest: Manifest) -> bool:
    """Whether the folder holds every file of the manifest with the right size and content."""
    try:
        return all(
            (path := folder / PurePosixPath(name)).is_file()
            and path.stat().st_size == entry.size
            and format.digest_of(path) == entry.sha256
            for name, entry in manifest.files.items()
        )
    except OSError:
        return False
