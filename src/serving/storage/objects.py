"""What the function needs from S3: one object, or a range of it, read by GET."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from serving.errors import ServingError
from serving.storage.deadline import Deadline

# botocore's defaults are 60 s for a connection and 60 s for an answer, with several attempts. Lambda ends a start after
# 10 s, and the log would not say why. S3 answers within a fraction of a second, or not at all.
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
# How long a small object may take in all, unless the reader says otherwise.
DOCUMENT_SECONDS = 4.0
# Small enough that the pieces in memory (one for every connection) take little beside a model.
PIECE_BYTES = 256 * 1024


class FetchError(ServingError):
    """S3 did not give an object.

    `retryable` says whether a later try can succeed (a fault of the network, or of S3 itself).
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class NotConnectedError(OSError):
    """No address of a host took a connection in time."""


class NotModified(ServingError):  # noqa: N818 (an outcome, and no failure)
    """A conditional read found the object that the reader has already."""


class Body(Protocol):
    """The bytes of an answer, as they arrive, until the deadline of `Objects.get`."""

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes; none at the end. Raises ConnectionError or TimeoutError where the connection fails."""
        ...

    def close(self) -> None:
        """End reading. The connection is kept only if everything was read."""
        ...


@dataclass(frozen=True)
class OpenedObject:
    """An object, or a range of it, whose bytes have yet to be read.

    Attributes:
        length: bytes of the body; -1 where the answer does not say.
        etag: the object's ETag.
        content_range: the header Content-Range; None where the answer is the whole object.
        body: the bytes.
    """

    length: int
    etag: str
    content_range: str | None
    body: Body


class Objects(Protocol):
    """Objects of S3."""

    def get(
        self,
        bucket: str,
        key: str,
        *,
        byte_range: str | None = None,
        unless: str | None = None,
        deadline: Deadline | None = None,
    ) -> OpenedObject:
        """Start reading an object.

        Args:
            byte_range: as in the header Range, for example `bytes=0-99`.
            unless: an ETag. An object that still has it is not sent.
            deadline: for status, headers and body together; None for DOCUMENT_SECONDS from now. The status and headers
                also have to arrive within READ_SECONDS.

        Raises:
            FileNotFoundError: there is no such object.
            NotModified: it still has that ETag.
            FetchError: S3 refused, or did not answer.
        """
        ...

    def close(self) -> None:
        """Give up connections and credentials. The next read gets new ones."""
        ...


def refused(bucket: str, key: str, status: int, code: str, message: str) -> Exception:
    """What `get` raises for an answer that is not an object."""
    if code in ("NoSuchKey", "404"):
        return FileNotFoundError(key)
    if status == 304:
        return NotModified(key)
    if code == "InvalidRange":
        return FetchError(f"{key} has fewer bytes than the manifest says", retryable=False)
    retryable = status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout")
    return FetchError(f"S3 refused to read {key} from {bucket}: {status} {code}: {message}", retryable=retryable)


def no_answer(bucket: str, key: str, error: Exception) -> FetchError:
    """What `get` raises where the network fails."""
    reason = f"{error or type(error).__name__}"
    if isinstance(error, NotConnectedError):
        reason += (
            ". Next: if the function is in a VPC, give the route tables of its subnets a gateway endpoint for S3 "
            "(the stack's parameters VpcId and RouteTableIds make one)"
        )
    return FetchError(f"S3 did not answer for {key} in {bucket}: {reason}", retryable=True)


def read_small(
    objects: Objects, bucket: str, key: str, limit: int, unless: str | None = None, deadline: Deadline | None = None
) -> tuple[bytes, str]:
    """A small object's content and its ETag, read until the deadline (None: DOCUMENT_SECONDS from now).

    Raises:
        ValueError: it has more than `limit` bytes.
        FileNotFoundError, NotModified, FetchError: as `Objects.get`.
    """
    found = objects.get(bucket, key, unless=unless, deadline=deadline)
    try:
        if found.length < 0:
            raise FetchError(f"S3 did not say how many bytes {key} has", retryable=True)
        if found.length > limit:
            raise ValueError(f"it has {found.length} bytes, and such a document has at most {limit}")
        content = b"".join(pieces(found.body))
    except (ConnectionError, TimeoutError) as error:
        raise FetchError(f"Reading {key} broke off: {error}", retryable=True) from error
    finally:
        found.body.close()
    if len(content) != found.length:
        raise FetchError(f"Reading {key} broke off after {len(content)} of {found.length} bytes", retryable=True)
    return content, found.etag


def pieces(body: Body) -> Iterator[bytes]:
    """The body, piece by piece. Raises as `Body.read`."""
    while piece := body.read(PIECE_BYTES):
        yield piece
