"""Leases and removal marks: how a command that uses a release and `gc`, which removes releases, notice each other.

    releases/V/.lease               a command is about to name release V in a channel
    releases/V/.removal-<random>    `gc` is about to remove release V

Each side first writes its own object and then looks for the other side's. S3 lists an object as soon as its write is
answered. So of two that meet, at least one sees the other and gives way: `gc` keeps a release with a new lease, and
other commands do not use a release with a removal mark. No file of a release can have such a name.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import uuid4

from lambda_torch.aws_errors import explained
from lambda_torch.errors import ConflictError
from lambda_torch.releases.bucket import Bucket, StoredObject
from serving.releases.format import file_key

LEASE_NAME: Final = ".lease"
MARK_PREFIX: Final = ".removal-"

# `gc` removes nothing later than this after it wrote its mark, and a mark of twice that age is from a `gc` that ended.
REMOVAL_TIME = timedelta(minutes=30)
STALE_MARK_AGE = 2 * REMOVAL_TIME


def hold(bucket: Bucket, version: str) -> None:
    """Take a lease on a release, or renew it, before its files are looked at or a channel names it.

    `gc` then keeps the release for its age of grace.

    Raises:
        ConflictError: `gc` is removing the release.
        BucketError: the bucket cannot be read or written.
    """
    put(bucket, file_key(version, LEASE_NAME))
    found = list(bucket.objects(file_key(version, ".")))
    for mark in found:
        if not is_mark(mark):
            continue
        if not is_stale(mark, found):
            raise ConflictError(
                f"gc is removing release {version} at this moment. No channel was moved.\n"
                "Next: run this command again in a minute. If gc was interrupted, its mark is ignored after an hour."
            )
        _clear(bucket, mark)


def _clear(bucket: Bucket, mark: StoredObject) -> None:
    """Delete a stale mark. It stays where this identity may delete nothing, which harms nobody: all ignore it."""
    from botocore.exceptions import ClientError

    with explained(bucket.name):
        try:
            bucket.client.delete_object(Bucket=bucket.name, Key=mark.key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise


def is_mark(each: StoredObject) -> bool:
    """Whether an object is a removal mark."""
    return each.key.split("/", 2)[2].startswith(MARK_PREFIX)


def is_stale(each: StoredObject, listed: Sequence[StoredObject]) -> bool:
    """Whether an object is a removal mark that a `gc` left which has ended.

    Args:
        listed: what was listed with it. The youngest of them is of now. All times are S3's, so that the clock of this
            machine does not matter.
    """
    return is_mark(each) and max(other.modified for other in listed) - each.modified > STALE_MARK_AGE


def put(bucket: Bucket, key: str) -> str:
    """Write a lease or a mark, each time with another content, and return its key."""
    with explained(bucket.name):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=uuid4().hex.encode())
    return key
