"""Answers that nobody waits for: written into the bucket under `results/`, each object once and never again.

A message may be delivered twice and a batch tried again; the write is conditional, so whoever comes second changes nothing.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "results/"


class ResultsError(Exception):
    """Results cannot be written now; trying later can help."""


class Results:
    """Writes results into a bucket.

    Args:
        client: a boto3 S3 client.
        bucket: the bucket's name.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def write(self, key: str, content: str, content_type: str) -> bool:
        """Write an object, unless it is there already; whether it was written.

        Raises:
            ResultsError: S3 did not take it.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=content.encode(), ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            # "Conditional writes": 412 where the object is there, 409 where another writer is about to make it. After a 409 the
            # other one may still fail, so only a 412 says that there is nothing left to do.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
                return False
            raise ResultsError(f"S3 did not take {key}: {error}") from error
        except BotoCoreError as error:
            raise ResultsError(f"S3 did not take {key}: {error}") from error
        return True


@cache
def results_of(bucket: str) -> Results:
    """The results of a bucket, with one client for the life of the environment."""
    from serving.storage.boto import open_client  # a write is not among the plain GETs of serving.storage.signed

    return Results(open_client(), bucket)
