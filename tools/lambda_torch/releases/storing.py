"""How the objects of a release are written: files with their hash, and a manifest that is never replaced."""

from collections.abc import Callable
from typing import Any

from lambda_torch.releases.bucket import Bucket
from serving.releases.format import MANIFEST_NAME, FileEntry, file_key

Progress = Callable[[str, int], None]
"""Called with `(file name, bytes sent)` during an upload."""

FILES_AT_ONCE = 4


def metadata_of(entry: FileEntry) -> dict[str, Any]:
    """What boto3 takes as `ExtraArgs` for a file, so that `has_file` finds it."""
    return {"Metadata": {"sha256": entry.sha256}}


def has_file(bucket: Bucket, key: str, entry: FileEntry) -> bool:
    """Whether the bucket has this content, by its size and the hash in its metadata. `verify` reads the bytes."""
    from botocore.exceptions import ClientError

    try:
        head = bucket.client.head_object(Bucket=bucket.name, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
            return False
        raise
    return head["ContentLength"] == entry.size and head["Metadata"].get("sha256") == entry.sha256


def put_manifest(bucket: Bucket, version: str, content: bytes) -> None:
    """Write a manifest, unless another command published the same files first. Then its manifest stays.

    Raises:
        BucketError: the bucket cannot be written.
    """
    bucket.write(file_key(version, MANIFEST_NAME), content, None)
