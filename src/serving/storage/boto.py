"""S3 through boto3, where plain GETs are not enough: proxies, private certificates, profiles, other partitions."""

import contextlib
from typing import TYPE_CHECKING

from serving.storage.objects import CONNECT_SECONDS, READ_SECONDS, OpenedObject, no_answer, refused

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

# One for each range that is fetched at a time, and some for small reads.
CONNECTIONS = 10


def open_client() -> "S3Client":
    """An S3 client with short waits and few attempts, since `serving.releases.download` tries again itself."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=CONNECTIONS,
            # Every byte that is used is checked by a SHA-256; a CRC as well would only take time.
            response_checksum_validation="when_required",
        ),
    )


class BotoObjects:
    """Objects of S3, read by a boto3 client."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def get(self, bucket: str, key: str, *, byte_range: str | None = None, unless: str | None = None) -> OpenedObject:
        """As `Objects.get`."""
        from botocore.exceptions import BotoCoreError, ClientError

        wanted = {"Range": byte_range, "IfNoneMatch": unless}
        arguments = {name: value for name, value in wanted.items() if value is not None}
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, **arguments)  # type: ignore[arg-type]
        except ClientError as error:
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise refused(bucket, key, status, str(said.get("Code", "")), str(said.get("Message", ""))) from None
        except BotoCoreError as error:
            raise no_answer(bucket, key, error) from error
        return OpenedObject(
            answer["ContentLength"], answer["ETag"], answer.get("ContentRange"), _BotoBody(answer["Body"])
        )

    def close(self) -> None:
        """As `Objects.close`. boto3 asks for new credentials itself."""
        self._client.close()


class _BotoBody:
    def __init__(self, body: "StreamingBody") -> None:
        self._body = body

    def read(self, count: int, /) -> bytes:
        """As `Body.read`."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            piece: bytes = self._body.read(count)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise ConnectionError(str(error)) from error
        return piece

    def limit_wait(self, seconds: float, /) -> None:
        """As `Body.limit_wait`."""
        # A body that was read to its end no longer has a socket.
        with contextlib.suppress(AttributeError, OSError):
            self._body.set_socket_timeout(max(seconds, 0.001))

    def close(self) -> None:
        """As `Body.close`."""
        self._body.close()
