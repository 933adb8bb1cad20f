"""Reads a bucket of releases: channels, manifests, and files, which come to this machine and are verified."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from serving.errors import ReleaseUnavailableError
from serving.releases import download, format
from serving.releases.cache import STAGING, ReleaseCache
from serving.releases.format import (
    MANIFEST_NAME,
    MAX_DOCUMENT_BYTES,
    Channel,
    Manifest,
    ReleaseRef,
    channel_key,
    file_key,
)
from serving.releases.room import MEGABYTE, Room
from serving.settings import AwsEnvironment, Settings, key_prefix
from serving.storage import signed
from serving.storage.deadline import Deadline
from serving.storage.objects import DOCUMENT_SECONDS, FetchError, NotModified, Objects, read_small

if TYPE_CHECKING:
    from serving.releases.memory import MemoryFiles


@dataclass(frozen=True)
class PointerState:
    """A channel as it was read, with its ETag, which shows whether it has changed since."""

    channel: Channel
    etag: str


@dataclass(frozen=True)
class FetchedRelease:
    """A release on this machine, with every file verified.

    Attributes:
        folder: its files. Those in memory are links there.
        files: the files in memory; None where all are on the disk.
    """

    folder: Path
    files: "MemoryFiles | None" = None


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
        room=room_of(settings),
        model_name=settings.model_name,
    )


def room_of(settings: Settings) -> Room:
    """The space that the function has for releases."""
    return Room(settings.memory_mb * MEGABYTE, settings.storage_mb and settings.storage_mb * MEGABYTE)


class ReleaseStore:
    """Reads a bucket.

    Args:
        objects: S3.
        bucket: the bucket's name.
        cache: local folder for fetched releases; it is made when it is needed.
        fetch_seconds: how long fetching one release may take in all.
        document_seconds: how long reading a pointer or a manifest may take in all.
        signers: the public keys, one of which must have signed a release. Empty: no signature is needed.
        room: the space that the function has.
        model_name: the model, in a stack with several. Its objects have keys of their own.
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
        room: Room = Room(),  # noqa: B008 (it cannot change)
        model_name: str = "",
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._cache = cache
        self._fetch_seconds = fetch_seconds
        self._document_seconds = document_seconds
        self._signers = signers
        self._room = room
        self._key_prefix = key_prefix(model_name)
        self._publish_options = f"--bucket {bucket}" + (f" --model {model_name}" if model_name else "")
        # What is kept of fetched releases, between fetches and processes.
        self.cache = ReleaseCache(cache)

    def channel(self, name: str, etag: str | None = None) -> PointerState | None:
        """The channel's pointer; None where it still has the given ETag (one conditional GET, RFC 9110 section 13.1.2).

        Raises:
            ReleaseUnavailableError: `no_release` (there is no such channel), `release_refused`, or
                `storage_unavailable`.
        """
        key = self._key_prefix + channel_key(name)
        try:
            content, found = self._document(key, etag)
            return PointerState(format.parse(Channel, content), found)
        except NotModified:
            return None
        except FileNotFoundError:
            raise ReleaseUnavailableError(
                "no_release",
                f"The channel {name!r} has no release yet. "
                f"Publish one: lambda-torch publish FOLDER {self._publish_options}",
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

            signing.check(self._objects, self._bucket, ref, self._signers, self._key_prefix)
        key = self._key_prefix + file_key(ref.version, MANIFEST_NAME)
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

    def fetch(self, manifest: Manifest, *, beside: bool = False) -> "FetchedRelease":
        """Bring a release's files to this machine, and verify each one.

        A large release goes straight into memory, if there is room. Others go into the cache on the disk, where the
        folder appears by one rename after everything in it was verified: another process, or a later start, never finds
        half a release. A folder that exists already is verified again, since other programs can write to /tmp.

        Args:
            beside: whether its model must be built beside those in service, as a canary's must.

        Raises:
            ReleaseUnavailableError: `release_refused` with the object and the reason, or `storage_unavailable`.
        """
        if beside:
            self._room.check_beside(manifest.version, manifest.size)
        folder = self._cache / manifest.version
        if _is_complete(folder, manifest):
            return FetchedRelease(folder)
        staging: Path | None = None
        try:
            place = self._room.place(manifest.version, manifest.size, self._cache)
            self._cache.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=self._cache, prefix=STAGING))
            deadline = Deadline(self._fetch_seconds)
            if place == "memory":
                fetched, staging = self._fetch_into_memory(manifest, staging, deadline), None
                return fetched
            for name, entry in manifest.files.items():
                self._fetch_file(manifest, name, entry, _target(staging, name), deadline)
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
        return FetchedRelease(folder)

    def _fetch_into_memory(self, manifest: Manifest, folder: Path, deadline: Deadline) -> "FetchedRelease":
        """The large files in memory, and the others in the folder. Raises as `_fetch_file`; the folder is gone then."""
        from serving.releases.memory import MemoryFiles, names_in_memory  # few releases are so large

        files = MemoryFiles(folder)
        try:
            in_memory = names_in_memory(manifest.files)
            for name, entry in manifest.files.items():
                target = _target(folder, name)
                descriptor = files.make(target, entry.size) if name in in_memory else None
                self._fetch_file(manifest, name, entry, target, deadline, descriptor)
            files.seal()
        except BaseException:
            files.close()
            raise
        return FetchedRelease(folder, files)

    def close(self) -> None:
        """Give up connections and credentials. The next read gets new ones."""
        self._objects.close()

    def _document(self, key: str, etag: str | None = None) -> tuple[bytes, str]:
        """A pointer's or a manifest's content, and its ETag. Raises as `read_small`."""
        deadline = Deadline(self._document_seconds)
        return read_small(self._objects, self._bucket, key, MAX_DOCUMENT_BYTES, etag, deadline)

    def _fetch_file(
        self,
        manifest: Manifest,
        name: str,
        entry: format.FileEntry,
        target: Path,
        deadline: Deadline,
        descriptor: int | None = None,
    ) -> None:
        """Fetch one file, and compare its hash: into a new file `target`, or into the open file of this descriptor."""
        key = self._key_prefix + file_key(manifest.version, name)
        try:
            if descriptor is None:
                digest = download.fetch(self._objects, self._bucket, key, entry.size, target, deadline)
            else:
                digest = download.fetch_into(self._objects, self._bucket, key, entry.size, descriptor, deadline)
        except FileNotFoundError:
            raise ReleaseUnavailableError("release_refused", f"{key} is missing, but the manifest lists it") from None
        except FetchError as error:
            code = "storage_unavailable" if error.retryable else "release_refused"
            raise ReleaseUnavailableError(code, str(error)) from error
        if digest != entry.sha256:
            raise ReleaseUnavailableError(
                "release_refused", f"{key} has SHA-256 {digest}, but the manifest says {entry.sha256}"
            )


def _target(folder: Path, name: str) -> Path:
    """Where a file of a release goes; its folder is made."""
    target = folder / PurePosixPath(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


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
