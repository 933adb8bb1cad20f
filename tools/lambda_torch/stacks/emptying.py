"""Emptying a bucket with versions: every version, every delete marker, every upload that was begun."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from lambda_torch.errors import StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

# "DeleteObjects": the most that one call takes.
BATCH = 1000
# A function that still runs may write while its bucket is emptied.
ROUNDS = 5


class BucketSize(NamedTuple):
    """What a bucket holds.

    Attributes:
        objects: versions and delete markers.
        bytes: of all versions.
    """

    objects: int
    bytes: int


def size_of(client: "S3Client", bucket: str) -> BucketSize:
    """Count what a bucket holds, every version included."""
    objects, size = 0, 0
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        versions = page.get("Versions", [])
        objects += len(versions) + len(page.get("DeleteMarkers", []))
        size += sum(version["Size"] for version in versions)
    return BucketSize(objects, size)


def empty(client: "S3Client", bucket: str, progress: Callable[[int], None] = lambda _gone: None) -> int:
    """Remove all that a bucket holds, and say how many versions and delete markers that were.

    Args:
        client: for the bucket's region.
        bucket: its name.
        progress: is called with the number of versions that each batch removed.

    Raises:
        StackError: S3 keeps an object, or others keep writing.
    """
    removed = 0
    for _ in range(ROUNDS):
        in_this_round = 0
        for batch in _batches(client, bucket):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            if errors := answer.get("Errors"):
                first = errors[0]
                raise StackError(
                    f"S3 keeps {len(errors)} objects of the bucket {bucket}, such as {first.get('Key')}: "
                    f"{first.get('Code')}: {first.get('Message')}\n"
                    "Next: use an identity that may call s3:DeleteObjectVersion, end object locks, and run this again."
                )
            in_this_round += len(batch)
            progress(len(batch))
        removed += in_this_round
        if not in_this_round:
            _abort_uploads(client, bucket)
            return removed
    raise StackError(
        f"The bucket {bucket} is not empty after {ROUNDS} rounds, because others keep writing to it.\n"
        "Next: stop what writes to it, and run the command again."
    )


def _batches(client: "S3Client", bucket: str) -> Iterator[list["ObjectIdentifierTypeDef"]]:
    pending: list[ObjectIdentifierTypeDef] = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            pending.append({"Key": each["Key"], "VersionId": each["VersionId"]})
            if len(pending) == BATCH:
                yield pending
                pending = []
    if pending:
        yield pending


def _abort_uploads(client: "S3Client", bucket: str) -> None:
    """The parts of an upload that was begun and not completed are no objects, and are charged."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
