"""Answers that no client waits for: each is one object in the bucket under `results/`, written once and never again.

A message may be delivered twice, and a batch may be tried twice. The write is conditional, so the second one changes
nothing.
"""

from functools import cache
from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "results/"


class ResultWriteError(ServingError):
    """S3 did not take a result. A later try can succeed."""


class Results:
    """Writes results into a bucket.

    Args:
        client: a boto3 S3 client.
        bucket: the bucket's name.
        key_prefix: what the keys of all objects begin with.
    """

    def __init__(self, client: "S3Client", bucket: str, key_prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._key_prefix = key_prefix

    def write(self, key: str, content: str, content_type: str) -> bool:
        """Write an object, unless it exists already. Returns whether it was written.

        The key is one without the prefix.

        Raises:
            ResultWriteError: S3 did not take it.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        key = self._key_prefix + key
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=content.encode(), ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            # "Conditional writes": 412 where the object exists, 409 where another writer is about to make it. After a
            # 409 the other writer may still fail, so only a 412 means that there is nothing left to do.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
                return False
            raise ResultWriteError(f"S3 did not take {key}: {error}") from error
        except BotoCoreError as error:
            raise ResultWriteError(f"S3 did not take {key}: {error}") from error
        return True


def open_results(settings: Settings) -> Results:
    """The results of the function's bucket.

    Raises:
        ResultWriteError: the function has no bucket.
    """
    if settings.bucket is None:
        raise ResultWriteError("the function's variable MODEL_BUCKET is not set")
    return _results_of(settings.bucket, settings.key_prefix)


@cache
def _results_of(bucket: str, key_prefix: str) -> Results:
    # One client for the life of the environment. `serving.storage.signed` reads only, so this one is boto3's.
    from serving.storage.boto import open_client

    return Results(open_client(), bucket, key_prefix)
