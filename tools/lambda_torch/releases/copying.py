"""Copying a release to another bucket, of another account or region.

The bytes go through this machine and are hashed on their way, because one identity rarely may read one account's bucket
and write another's. The last bytes of a file are not sent before its hash is right. Then the copy is read from the
target and hashed again. The manifest, which makes a release complete, comes last, and is the same bytes as at the source.
"""

import hashlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError
from lambda_torch.releases import leases
from lambda_torch.releases.bucket import Bucket, Release
from lambda_torch.releases.catalog import damaged_files
from lambda_torch.releases.keys import put_signature, signatures
from lambda_torch.releases.storing import FILES_AT_ONCE, Progress, has_file, metadata_of, put_manifest
from serving.releases.format import FileEntry, Manifest, file_key

if TYPE_CHECKING:
    from botocore.response import StreamingBody


@dataclass(frozen=True)
class CopiedRelease:
    """What a copy did, or would do.

    Attributes:
        release: the release in the target.
        sent: the names of the files that were sent. The target already had the others.
        existed: whether the target had the release. Then its manifest stays.
        same_manifest: whether note, metrics and golden examples are those of the source.
    """

    release: Release
    sent: tuple[str, ...]
    existed: bool
    same_manifest: bool


class HashedStream:
    """The content of a file as it is read. Its last bytes are given only if size and hash are those of the manifest.

    Args:
        body: what S3 sends.
        key: of the file, for messages.
        entry: the file's size and hash.
    """

    def __init__(self, body: "StreamingBody", key: str, entry: FileEntry) -> None:
        self._body = body
        self._key = key
        self._entry = entry
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, amount: int = -1) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            BucketError: the content is not the one that the manifest describes.
        """
        chunk = self._body.read(None if amount < 0 else amount)
        self._digest.update(chunk)
        self._size += len(chunk)
        ends = self._size >= self._entry.size or not chunk
        if ends and (self._size, self._digest.hexdigest()) != (self._entry.size, self._entry.sha256):
            raise BucketError(
                f"{self._key} is damaged at the source: its content is not the one in the manifest. No channel was moved.\n"
                "Next: lambda-torch verify VERSION at the source; publish the release there again."
            )
        return chunk


def copy_release(
    source: Bucket, target: Bucket, version: str, *, progress: Progress | None = None, dry_run: bool = False
) -> CopiedRelease:
    """Copy a release with its signatures. A copy that was interrupted continues with the files that are missing.

    The source is only read. `gc` may remove there a release that no channel names; then the copy fails.

    Args:
        progress: called with the name of a file and a number of bytes: once for sending, and again for checking. Files that
            need neither count as well.
        dry_run: find what would be sent, and change nothing.

    Raises:
        BucketError: a bucket cannot be used, or the release is damaged. No channel names the copy yet.
    """
    if source.name == target.name:
        raise BucketError(f"Both buckets are {source.name}.\nNext: name another one as the target.")
    release, content = source.with_content(version)
    manifest = release.manifest
    if not dry_run:
        leases.hold(target, version)
    existed = version in target.versions()
    missing = _missing(target, manifest)
    if dry_run:
        there = target.release(version) if existed else release
        return CopiedRelease(there, missing, existed, there.ref == release.ref)
    _send(source, target, manifest, missing, progress)
    if existed:
        # Its manifest was written when all files were there and right.
        _count(manifest, progress)
    else:
        _check(source, target, manifest, progress)
        put_manifest(target, version, content)
    there = target.release(version)
    if there.ref == release.ref:
        for signature in signatures(source, version):
            put_signature(target, release.ref, signature)
    return CopiedRelease(there, missing, existed, there.ref == release.ref)


def _missing(target: Bucket, manifest: Manifest) -> tuple[str, ...]:
    with explained(target.name):
        return tuple(
            name
            for name, entry in manifest.files.items()
            if not has_file(target, file_key(manifest.version, name), entry)
        )


def _send(
    source: Bucket, target: Bucket, manifest: Manifest, names: Collection[str], progress: Progress | None
) -> None:
    def send(name: str) -> None:
        entry, key = manifest.files[name], file_key(manifest.version, name)
        with explained(source.name):
            try:
                body = source.client.get_object(Bucket=source.name, Key=key)["Body"]
            except source.client.exceptions.NoSuchKey:
                raise BucketError(
                    f"{key} is missing in {source.name}. No channel was moved.\nNext: publish the release there again."
                ) from None
        with explained(target.name):
            target.client.upload_fileobj(
                HashedStream(body, key, entry),  # type: ignore[arg-type]  # boto3 needs `read` only
                target.name,
                key,
                ExtraArgs=metadata_of(entry),
                Callback=(lambda count: progress(name, count)) if progress else None,
            )

    for name, entry in manifest.files.items():
        if progress and name not in names:
            progress(name, entry.size)
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        list(pool.map(send, names))


def _check(source: Bucket, target: Bucket, manifest: Manifest, progress: Progress | None) -> None:
    """Read the copy. A file that was there before with the wrong content is sent again, once."""
    damaged = damaged_files(target, manifest, (lambda count: progress("", count)) if progress else None)
    if not damaged:
        return
    _send(source, target, manifest, damaged, None)
    if left := damaged_files(target, manifest):
        raise BucketError(
            f"The copy in {target.name} is damaged: {'; '.join(left.values())}. No channel was moved.\n"
            "Next: delete these objects in the target, and run the command again."
        )


def _count(manifest: Manifest, progress: Progress | None) -> None:
    if progress:
        progress("", manifest.size)
