"""Moving a channel: promote a release, roll back, and run a canary. Each is one conditional write."""

from collections.abc import Sequence
from datetime import datetime

from lambda_torch.errors import BucketError
from lambda_torch.releases import leases
from lambda_torch.releases.bucket import Bucket, Change, ChannelState
from serving.releases.format import SCHEMA_VERSION, Canary, Channel, ReleaseRef, file_key


def promote(bucket: Bucket, channel: str, ref: ReleaseRef, *, dry_run: bool = False) -> tuple[Channel, str | None]:
    """Make a release current. The current release becomes the previous one, and a canary ends.

    Returns:
        The content of the channel now, and the version that was current before (None for a new channel).
    """
    state = bucket.channel(channel)
    before = state.channel
    if before is not None and before.current == ref and before.canary is None:
        return before, ref.version

    def change(now: Channel | None, updated: datetime) -> Channel:
        previous = None if now is None else now.previous if now.current.version == ref.version else now.current
        return Channel(schema_version=SCHEMA_VERSION, current=ref, previous=previous, updated=updated)

    return _move(bucket, state, change, [ref], dry_run=dry_run), before.current.version if before else None


def rollback(bucket: Bucket, channel: str, *, dry_run: bool = False) -> Channel:
    """Make the previous release current again, and the current one previous. A canary ends.

    Raises:
        BucketError: there is no previous release, or it is not complete any more.
    """
    state = bucket.channel(channel)
    if state.channel is None or state.channel.previous is None:
        raise BucketError(
            f"The channel {channel!r} has no previous release.\n"
            "Next: promote one by its version; lambda-torch releases lists them."
        )
    # A release must not become current if it was removed by hand, or if its manifest was replaced.
    back = state.channel.previous
    if bucket.release(back.version).ref != back:
        raise BucketError(
            f"The manifest of the previous release, {back.version}, is not the one that was promoted.\n"
            f"Next: look at it (lambda-torch verify {back.version[:16]}), then promote a release by its version."
        )

    def change(now: Channel | None, updated: datetime) -> Channel:
        assert now is not None
        assert now.previous is not None
        return Channel(schema_version=SCHEMA_VERSION, current=now.previous, previous=now.current, updated=updated)

    return _move(bucket, state, change, [back], dry_run=dry_run)


def set_canary(
    bucket: Bucket, channel: str, ref: ReleaseRef | None, share: float = 0.0, *, dry_run: bool = False
) -> Channel:
    """Let a release answer a share of the requests. None ends the canary.

    Raises:
        BucketError: the channel has no current release, or the release is current already.
    """
    state = bucket.channel(channel)
    if state.channel is None:
        raise BucketError(f"The channel {channel!r} has no release yet.\nNext: lambda-torch publish FOLDER")
    if ref is not None and state.channel.current.version == ref.version:
        raise BucketError(f"Release {ref.version} is already the current release of {channel!r}.")

    def change(now: Channel | None, updated: datetime) -> Channel:
        assert now is not None
        canary = None if ref is None else Canary(**ref.model_dump(), share=share)
        return Channel(
            schema_version=SCHEMA_VERSION, current=now.current, previous=now.previous, canary=canary, updated=updated
        )

    return _move(bucket, state, change, [] if ref is None else [ref], dry_run=dry_run)


def follow(bucket: Bucket, state: ChannelState, leader: Channel) -> Channel:
    """Make a channel name what the same channel of another bucket names. Its releases must be in this bucket.

    Raises:
        ConflictError: another command moved it after `state` was read.
        BucketError: a release is not in this bucket.
    """
    return _move(bucket, state, lambda _now, _updated: leader, named_by(leader), dry_run=False)


def _move(bucket: Bucket, state: ChannelState, change: Change, refs: Sequence[ReleaseRef], *, dry_run: bool) -> Channel:
    """Move a channel to releases. Move it back if one was removed at that moment by a hand or an old `gc`."""
    for ref in () if dry_run else refs:
        leases.hold(bucket, ref.version)
        bucket.release(ref.version)
    if state.channel is not None and not dry_run:
        # The age of grace of those that it will not name any more begins now.
        after = _named(bucket.move(state, change, dry_run=True))
        for version in sorted(_named(state.channel) - after):
            leases.put(bucket, file_key(version, leases.LEASE_NAME))
    moved = bucket.move(state, change, dry_run=dry_run)
    if dry_run:
        return moved
    try:
        for ref in refs:
            bucket.release(ref.version)
    except BucketError as error:
        bucket.undo(state, moved)
        raise BucketError(f"The channel {state.name!r} was not moved: {error}") from error
    return moved


def named_by(channel: Channel) -> list[ReleaseRef]:
    """The releases that a channel names."""
    return [ref for ref in (channel.current, channel.previous, channel.canary) if ref is not None]


def _named(channel: Channel) -> set[str]:
    return {ref.version for ref in named_by(channel)}
