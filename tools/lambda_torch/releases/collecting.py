"""Removing old releases: `gc`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import uuid4

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError
from lambda_torch.releases import leases
from lambda_torch.releases.bucket import Bucket, StoredObject
from lambda_torch.releases.catalog import roles
from lambda_torch.releases.leases import LEASE_NAME, MARK_PREFIX, REMOVAL_TIME, is_mark
from serving.releases.format import MANIFEST_NAME, file_key

GRACE = timedelta(days=1)
DELETE_AT_ONCE = 1000  # the limit of S3 for one DeleteObjects call


@dataclass(frozen=True)
class RemovedRelease:
    """A release that was removed, or files without a manifest that a publication left: the version and the bytes."""

    version: str
    size: int


def collect_garbage(
    bucket: Bucket, keep: int, grace: timedelta = GRACE, *, dry_run: bool = False
) -> list[RemovedRelease]:
    """Remove all releases but the newest `keep`, those that a channel names, and those that were used a short time ago.

    A publication, a promotion, a rollback and a canary take a lease on their release (`lambda_torch.releases.leases`).
    A release stays while anything of it, its lease included, is younger than `grace`. Files without a manifest are from
    a publication that did not finish, or from a removal that did not. They go by the same rule.

    Args:
        keep: how many of the newest releases stay in any case.
        grace: the age below which a release stays. Zero is for a bucket that no other command uses meanwhile.
        dry_run: find what would be removed, and change nothing.

    Returns:
        What was removed, newest release first, then files without a manifest.

    Raises:
        BucketError: the bucket cannot be read or written.
    """
    if keep < 0:
        raise BucketError("--keep takes 0 or more.")
    if grace < timedelta():
        raise BucketError("--grace takes 0 or more hours.")
    stored = dict(_by_version(bucket))
    versions = [release.ref.version for release in bucket.releases()]
    named = roles(bucket)
    unfinished = sorted(stored.keys() - set(versions))
    now = datetime.now(UTC)
    removed = []
    for version in versions[keep:] + unfinished:
        objects = stored.get(version, [])
        if version in named or any(each.modified > now - grace for each in objects if not is_mark(each)):
            continue
        files = [each for each in objects if not is_mark(each) and _name(each) != LEASE_NAME]
        if (dry_run or _remove(bucket, version, objects)) and files:
            removed.append(RemovedRelease(version, sum(each.size for each in files)))
    return removed


def _by_version(bucket: Bucket) -> Iterator[tuple[str, list[StoredObject]]]:
    found = (each for each in bucket.objects("releases/") if each.key.count("/") >= 2)
    for version, objects in groupby(found, key=lambda each: each.key.split("/")[1]):
        yield version, list(objects)


def _name(each: StoredObject) -> str:
    return each.key.split("/", 2)[2]


def _remove(bucket: Bucket, version: str, seen: Sequence[StoredObject]) -> bool:
    """Remove a release, unless it is in use by now. Returns whether it was removed.

    The manifest goes first and the mark goes last, so that an interrupted removal leaves nothing that looks complete.

    Args:
        seen: the objects of the release, as they were when it was chosen.
    """
    latest = time.time() + REMOVAL_TIME.total_seconds()
    mark = leases.put(bucket, file_key(version, f"{MARK_PREFIX}{uuid4().hex}"))
    now = list(bucket.objects(f"releases/{version}/"))
    unused = version not in roles(bucket) and _without_marks(now) == _without_marks(seen)
    if unused:
        manifest = file_key(version, MANIFEST_NAME)
        _delete(bucket, [manifest], latest)
        _delete(bucket, [each.key for each in now if each.key != manifest and not is_mark(each)], latest)
    # Another gc that runs now still needs its own mark.
    _delete(bucket, [each.key for each in now if each.key == mark or leases.is_stale(each, now)], latest)
    return unused


def _without_marks(objects: Sequence[StoredObject]) -> set[StoredObject]:
    return {each for each in objects if not is_mark(each)}


def _delete(bucket: Bucket, keys: Sequence[str], latest: float) -> None:
    for start in range(0, len(keys), DELETE_AT_ONCE):
        if time.time() > latest:
            # By now a publication may take the mark for one of a removal that ended.
            raise BucketError("The removal took too long and was given up.\nNext: run the same command again.")
        batch = [{"Key": each} for each in keys[start : start + DELETE_AT_ONCE]]
        with explained(bucket.name):
            answer = bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": batch, "Quiet": True})  # type: ignore[typeddict-item]
        for error in answer.get("Errors", []):
            raise BucketError(f"{error.get('Key')} could not be removed: {error.get('Message')}")
