"""S3 through boto3, where plain GETs are not enough: proxies, private certificates, profiles, other partitions."""

import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from serving.storage.deadline import Deadline
from serving.storage.objects import (
    CONNECT_SECONDS,
    DOCUMENT_SECONDS,
    READ_SECONDS,
    NotConnectedError,
    OpenedObject,
    no_answer,
    refused,
)

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

    def get(
        self,
        bucket: str,
        key: str,
        *,
        byte_range: str | None = None,
        unless: str | None = None,
        deadline: Deadline | None = None,
    ) -> OpenedObject:
        """As `Objects.get`."""
        deadline = deadline or Deadline(DOCUMENT_SECONDS)
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

        wanted = {"Range": byte_range, "IfNoneMatch": unless}
        arguments = {name: value for name, value in wanted.items() if value is not None}
        try:
            answer = _by(
                deadline.within(READ_SECONDS),
                lambda: self._client.get_object(Bucket=bucket, Key=key, **arguments),  # type: ignore[arg-type]
                lambda late: late["Body"].close(),
            )
        except ClientError as error:
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise refused(bucket, key, status, str(said.get("Code", "")), str(said.get("Message", ""))) from None
        except (ConnectTimeoutError, EndpointConnectionError) as error:
            raise no_answer(bucket, key, NotConnectedError(str(error))) from error
        except (BotoCoreError, TimeoutError) as error:
            raise no_answer(bucket, key, error) from error
        body = _BotoBody(answer["Body"], deadline)
        return OpenedObject(answer.get("ContentLength", -1), answer.get("ETag", ""), answer.get("ContentRange"), body)

    def close(self) -> None:
        """As `Objects.close`. boto3 asks for new credentials itself."""
        self._client.close()


class _BotoBody:
    def __init__(self, body: "StreamingBody", deadline: Deadline) -> None:
        self._body, self._deadline = body, deadline

    def read(self, count: int, /) -> bytes:
        """As `Body.read`."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            self._limit(self._deadline.wait(READ_SECONDS))
            piece: bytes = _by(self._deadline, lambda: self._body.read(count))
        except TimeoutError:
            # The thread that still reads ends at its next wait.
            self._limit(0.001)
            raise
        except (BotoCoreError, HTTPError, OSError) as error:
            raise ConnectionError(str(error)) from error
        return piece

    def close(self) -> None:
        """As `Body.close`."""
        self._body.close()

    def _limit(self, seconds: float) -> None:
        # A body that was read to its end no longer has a socket.
        with contextlib.suppress(AttributeError, OSError):
            self._body.set_socket_timeout(seconds)


def _by(deadline: Deadline, call: Callable[[], Any], discard: Callable[[Any], object] = id) -> Any:
    """What the call returns, if it does so before the deadline. Its waits are too deep in boto3 to bound each of them.

    Args:
        discard: takes what the call returns later than that.

    Raises:
        TimeoutError: the deadline passed. The call goes on in its thread and ends by boto3's own timeouts.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: a call that hangs does not keep the process from ending.
    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="boto3", daemon=True).start()
    try:
        return outcome.result(deadline.wait(float("inf")))
    except TimeoutError:
        outcome.add_done_callback(lambda late: None if late.exception() else discard(late.result()))
        raise
