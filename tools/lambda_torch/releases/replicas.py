"""Buckets in other regions that follow this one: the same releases, and channels that name the same.

`regions.json` in the bucket of the first region lists them. A channel is followed in this order: the releases that it
names are copied and checked, then the pointer is moved. S3's own replication keeps no order between objects, so there a
pointer could arrive before its release.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from lambda_torch.errors import BucketError, ConflictError
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.copying import copy_release
from lambda_torch.releases.storing import Progress
from serving.releases import format
from serving.releases.format import Channel, Document, ReleaseRef, SchemaVersion

# The document in the bucket of the first region.
REGIONS_KEY: Final = "regions.json"
# A channel that moves while it is followed is followed again.
ROUNDS = 5

Opener = Callable[["Replica"], Bucket]
"""Opens the bucket of a replica."""
Status = Literal["same", "behind", "moved there"]


class Replica(Document):
    """A bucket in another region that follows this one."""

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    bucket: Annotated[str, Field(min_length=3, max_length=63)]


class ReplicaList(Document):
    """`regions.json`: every bucket that follows this one."""

    schema_version: SchemaVersion
    replicas: Annotated[list[Replica], Field(max_length=50)] = Field(default_factory=list)


@dataclass(frozen=True)
class FollowedChannel:
    """A channel of a replica, beside that of the first region.

    Attributes:
        channel: its name.
        status: `same`; `behind`; or `moved there`: it was moved in the replica alone after it was moved in the first region.
        version: the current release in the replica. None if the channel does not exist there.
        wanted: the current release in the first region.
        missing: releases that the channel of the first region names and the replica does not have.
    """

    channel: str
    status: Status
    version: str | None
    wanted: str
    missing: tuple[str, ...]


def replicas_of(bucket: Bucket) -> list[Replica]:
    """The buckets that follow this one.

    Raises:
        BucketError: the list cannot be read.
    """
    return _read(bucket)[0]


def add_replica(bucket: Bucket, replica: Replica) -> bool:
    """Let a bucket follow this one. Returns False if it did before. It replaces another bucket of the same region."""
    found, etag = _read(bucket)
    if replica in found:
        return False
    _write(bucket, [*(each for each in found if each.region != replica.region), replica], etag)
    return True


def remove_replica(bucket: Bucket, region: str) -> bool:
    """Let the bucket of a region follow this one no more. Returns False if there was none."""
    found, etag = _read(bucket)
    rest = [each for each in found if each.region != region]
    if len(rest) == len(found):
        return False
    _write(bucket, rest, etag)
    return True


def _read(bucket: Bucket) -> tuple[list[Replica], str | None]:
    advice = "delete that object, and add the regions again (lambda-torch region add)."
    found, etag = bucket.document(REGIONS_KEY, ReplicaList, "a list of regions", advice)
    return ([] if found is None else found.replicas), etag


def _write(bucket: Bucket, replicas: list[Replica], etag: str | None) -> None:
    body = format.dump(ReplicaList(schema_version=format.SCHEMA_VERSION, replicas=replicas))
    if not bucket.write(REGIONS_KEY, body, etag):
        raise ConflictError(f"Another command changed {REGIONS_KEY} at the same time.\nNext: run this command again.")


def compare(source: Bucket, target: Bucket, name: str) -> FollowedChannel | None:
    """How a channel of the replica stands to that of the first region. None if the first region has no such channel."""
    leader = source.channel(name).channel
    return None if leader is None else _compared(target, name, leader, target.channel(name).channel)


def follow(
    source: Bucket,
    target: Bucket,
    name: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> FollowedChannel | None:
    """Copy the releases that a channel names to the replica, and then move the channel there.

    Args:
        force: take back a move that was made in the replica alone.
        progress: as in `copy_release`.
        dry_run: compare, and change nothing.

    Returns:
        How the channel stands now. `moved there` if the replica was moved alone, and `force` was not given: then it
        stays as it is. None if the first region has no such channel.

    Raises:
        BucketError: a bucket cannot be used, or a release is damaged. The replica serves the same as before.
    """
    for _ in range(ROUNDS):
        leader, state = source.channel(name).channel, target.channel(name)
        if leader is None:
            return None
        found = _compared(target, name, leader, state.channel)
        if found.status == "same" or dry_run or (found.status == "moved there" and not force):
            return found
        copied = _copied(source, target, leader, progress)
        # Another command may have moved it there meanwhile: then all is looked at again.
        try:
            channels.follow(target, state, copied)
        except ConflictError:
            continue
    raise ConflictError(
        f"The channel {name!r} moves all the time.\nNext: run this again when the other commands have ended."
    )


def _compared(target: Bucket, name: str, leader: Channel, there: Channel | None) -> FollowedChannel:
    status: Status = "behind"
    if there is not None and _names(there) == _names(leader):
        status = "same"
    elif there is not None and there.updated > leader.updated:
        status = "moved there"
    complete = set(target.versions())
    missing = tuple(ref.version for ref in channels.named_by(leader) if ref.version not in complete)
    return FollowedChannel(name, status, there.current.version if there else None, leader.current.version, missing)


def _names(channel: Channel) -> tuple[object, ...]:
    """What a channel says, without the hashes of manifests: the same files may be published twice, with other notes."""
    refs = (channel.current, channel.previous, channel.canary)
    share = channel.canary.share if channel.canary else None
    return (*(ref.version if ref else None for ref in refs), share)


def _copied(source: Bucket, target: Bucket, leader: Channel, progress: Progress | None) -> Channel:
    """The channel as the replica can have it, after its releases were copied."""

    def at_target(ref: ReleaseRef) -> dict[str, str]:
        # A canary is a reference with a share.
        if source.release(ref.version).ref.manifest_sha256 != ref.manifest_sha256:
            raise BucketError(
                f"{source.name} names release {ref.version} with the hash of another manifest.\n"
                f"Next: lambda-torch verify {ref.version[:16]} --bucket {source.name}"
            )
        return copy_release(source, target, ref.version, progress=progress).release.ref.model_dump()

    changes = {"current": ReleaseRef(**at_target(leader.current))}
    for role in ("previous", "canary"):
        ref: ReleaseRef | None = getattr(leader, role)
        if ref is not None:
            changes[role] = ref.model_copy(update=at_target(ref))
    return leader.model_copy(update=changes)
