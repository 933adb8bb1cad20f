"""A bucket of releases: its channels, its manifests and its objects."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError, ConflictError
from serving.releases import format
from serving.releases.format import (
    MANIFEST_NAME,
    MAX_DOCUMENT_BYTES,
    Channel,
    D,
    Manifest,
    ReleaseRef,
    channel_key,
    file_key,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef


@dataclass(frozen=True)
class Release:
    """A release in the bucket: its manifest, and the reference by which a channel names it."""

    ref: ReleaseRef
    manifest: Manifest


@dataclass(frozen=True)
class StoredObject:
    """An object as S3 lists it: its key, its size in bytes, the time of its last write by S3's clock, and its ETag."""

    key: str
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True)
class ChannelState:
    """A channel as it was read. `channel` and `etag` are None if it does not exist yet."""

    name: str
    channel: Channel | None
    etag: str | None


Change = Callable[[Channel | None, datetime], Channel]
"""Makes the new content of a channel from the old content (None if it does not exist) and the time of the change."""


class Bucket:
    """Reads a bucket and moves its channels.

    Every write of a channel is conditional (S3 `If-Match`, `If-None-Match`). If two commands move it at the same time,
    the second one gets a ConflictError.
    """

    def __init__(self, client: "S3Client", name: str) -> None:
        self.client = client
        self.name = name

    def channel(self, name: str) -> ChannelState:
        """Read a channel.

        Raises:
            BucketError: the bucket cannot be read, or the channel is not in the right format.
        """
        advice = "remove that object, or restore an earlier version of it, then promote a release again."
        return ChannelState(name, *self.document(channel_key(name), Channel, "a channel", advice))

    def document(self, key: str, kind: type[D], described: str, advice: str) -> tuple[D | None, str | None]:
        """Read a document, with its ETag. None twice if there is none.

        Args:
            key: of the object.
            kind: what it is.
            described: the same in words, for messages.
            advice: the next step if it is damaged.

        Raises:
            BucketError: the bucket cannot be read, or the document is not in the right format.
        """
        with explained(self.name):
            try:
                response = self.client.get_object(Bucket=self.name, Key=key)
            except self.client.exceptions.NoSuchKey:
                return None, None
            try:
                return format.parse(kind, self._small(response)), response["ETag"]
            except ValueError as error:
                raise BucketError(f"{key} is not in the format of {described}: {error}\nNext: {advice}") from None

    def channels(self) -> list[ChannelState]:
        """All channels, sorted by name."""
        keys = (key for key in self._keys("channels/") if key.endswith(".json"))
        names = [key.removeprefix("channels/").removesuffix(".json") for key in keys]
        return [self.channel(name) for name in sorted(names)]

    def move(self, state: ChannelState, change: Change, *, dry_run: bool = False) -> Channel:
        """Write what `change` makes of a channel, unless another command moved it after it was read.

        Raises:
            ConflictError: another command moved it.
            BucketError: the bucket cannot be written.
        """
        moved = change(state.channel, datetime.now(UTC).replace(microsecond=0))
        if dry_run:
            return moved
        if not self.write(channel_key(state.name), format.dump(moved), state.etag):
            raise ConflictError(
                f"Another command moved the channel {state.name!r} after this one read it. Nothing was changed.\n"
                f"Next: see what it names now (lambda-torch releases --bucket {self.name}), then run this one again."
            )
        return moved

    def write(self, key: str, body: bytes, etag: str | None) -> bool:
        """Write a document, unless another command wrote it after it was read. Returns whether it has this content now.

        Args:
            etag: of the document as it was read. None if there was none.

        Raises:
            BucketError: the bucket cannot be written.
        """
        with explained(self.name):
            from botocore.exceptions import ClientError

            try:
                if etag is None:
                    self.client.put_object(
                        Bucket=self.name, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
                    )
                else:
                    self.client.put_object(
                        Bucket=self.name, Key=key, Body=body, ContentType="application/json", IfMatch=etag
                    )
            except ClientError as error:
                # S3 answers 409 to conditional writes at the same time, and 404 to If-Match on a removed object.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                    raise
                # If it has this content, the answer to this write was lost, and botocore repeated the write.
                return self._holds(key, body)
        return True

    def undo(self, before: ChannelState, moved: Channel) -> None:
        """Undo a move, unless another command has moved the channel again."""
        now = self.channel(before.name)
        if now.channel != moved:
            return
        key = channel_key(before.name)
        with explained(self.name):
            if before.channel is None:
                self.client.delete_object(Bucket=self.name, Key=key)
                return
        earlier = before.channel
        self.move(now, lambda _, updated: earlier.model_copy(update={"updated": updated}))

    def _holds(self, key: str, body: bytes) -> bool:
        try:
            return self._small(self.client.get_object(Bucket=self.name, Key=key)) == body
        except (self.client.exceptions.NoSuchKey, ValueError):
            return False

    @staticmethod
    def _small(response: "GetObjectOutputTypeDef") -> bytes:
        """The bytes of a document. Raises ValueError if there are more than a document can have."""
        if response["ContentLength"] > MAX_DOCUMENT_BYTES:
            response["Body"].close()
            raise ValueError(f"it has {response['ContentLength']} bytes, more than such a document can have")
        return response["Body"].read()

    def versions(self) -> list[str]:
        """The versions of all complete releases (those with a manifest)."""
        suffix = f"/{MANIFEST_NAME}"
        return sorted(
            key.split("/")[1] for key in self._keys("releases/") if key.endswith(suffix) and key.count("/") == 2
        )

    def release(self, version: str) -> Release:
        """Read a release's manifest.

        Raises:
            BucketError: there is no such release, or its manifest is damaged.
        """
        return self.with_content(version)[0]

    def with_content(self, version: str) -> tuple[Release, bytes]:
        """A release, and the bytes of its manifest. A copy has the same bytes, with fields that this version does not know.

        Raises:
            BucketError: there is no such release, or its manifest is damaged.
        """
        key = file_key(version, MANIFEST_NAME)
        with explained(self.name):
            try:
                response = self.client.get_object(Bucket=self.name, Key=key)
            except self.client.exceptions.NoSuchKey:
                raise BucketError(
                    f"There is no release {version} in {self.name}.\nNext: lambda-torch releases --bucket {self.name} lists them."
                ) from None
            try:
                content = self._small(response)
                manifest = format.parse(Manifest, content)
                if manifest.version != version:
                    raise ValueError(f"it describes another release, {manifest.version}")
            except ValueError as error:
                raise BucketError(
                    f"{key} is damaged: {error}\nNext: delete that object and publish the release again."
                ) from None
        digest = hashlib.sha256(content).hexdigest()
        return Release(ReleaseRef(version=version, manifest_sha256=digest), manifest), content

    def releases(self) -> Iterator[Release]:
        """All complete releases, newest first. A damaged manifest is an error, as in `release`."""
        found = [self.release(version) for version in self.versions()]
        yield from sorted(found, key=lambda each: (each.manifest.created, each.ref.version), reverse=True)

    def resolve(self, word: str, channel: str) -> str:
        """The version for a word: `current`, `previous`, `canary` of the channel, or the beginning of a version.

        Raises:
            BucketError: there is no such version, or several.
        """
        if word in ("current", "previous", "canary"):
            named = self.channel(channel).channel
            ref: ReleaseRef | None = getattr(named, word) if named else None
            if ref is None:
                raise BucketError(f"The channel {channel!r} has no {word} release.")
            return ref.version
        matches = [version for version in self.versions() if version.startswith(word.lower())]
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(version[:16] for version in matches[:5])
            raise BucketError(f"{len(matches)} versions begin with {word!r}.\nNext: give more letters: {some}")
        raise BucketError(
            f"No release begins with {word!r}.\nNext: lambda-torch releases --bucket {self.name} lists them."
        )

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose keys begin with `prefix`, sorted by key."""
        with explained(self.name):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield StoredObject(item["Key"], item["Size"], item["LastModified"], item["ETag"])

    def _keys(self, prefix: str) -> Iterator[str]:
        return (each.key for each in self.objects(prefix))
