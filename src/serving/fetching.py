"""One object of S3 into one file: ranges in parallel, written where they belong, hashed as they arrive.

The file is the only copy: a range goes from the socket into its place with `pwrite`, one small piece at a time, and the hash
follows behind the last byte that has no gap before it, reading what is still in the page cache. safetensors then maps that file.
"""

import contextlib
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

# A connection to S3 carries some 90 MB/s; AWS's performance guidelines advise ranges of 8-16 MB over several connections.
PART_BYTES = 8 * 1024 * 1024
PARALLEL = 8
# Small enough that the pieces in flight (PARALLEL of them) are nothing beside a model.
PIECE_BYTES = 256 * 1024
# The hash must keep up with all connections, and each piece of it waits for the interpreter once.
HASH_BYTES = 1024 * 1024
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1
# botocore waits 60 s for a connection and 60 s for an answer, five times over; Lambda ends a start after 10 s, and nobody would
# learn why. S3 answers within a fraction of a second, or not at all.
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0


class FetchError(Exception):
    """An object could not be read. `retryable` says whether trying later can help (a network fault, or S3 itself)."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


def open_client() -> "S3Client":
    """The function's S3 client: short waits, since `fetch` tries again by itself, and a connection for every range."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=PARALLEL + 2,
            # For signed URLs; requests are signed so anyway.
            signature_version="s3v4",
            # Every byte that is used is held against a SHA-256; a CRC beside it would only take time.
            response_checksum_validation="when_required",
        ),
    )


def get(client: "S3Client", bucket: str, key: str, **arguments: Any) -> Mapping[str, Any]:
    """Start reading an object.

    Raises:
        FileNotFoundError: there is no such object.
        FetchError: S3 refused or did not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return client.get_object(Bucket=bucket, Key=key, **arguments)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ("NoSuchKey", "404"):
            raise FileNotFoundError(key) from None
        if status == 304:
            raise NotModified(key) from None
        if code == "InvalidRange":
            raise FetchError(f"{key} has fewer bytes than the manifest says", retryable=False) from None
        retryable = status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout")
        raise FetchError(f"S3 refused to read {key} from {bucket}: {error}", retryable=retryable) from error
    except BotoCoreError as error:
        raise FetchError(f"S3 did not answer for {key} in {bucket}: {error}", retryable=True) from error


class NotModified(Exception):  # noqa: N818 (an outcome, not an error)
    """A conditional read found what the reader has already."""


def read_small(client: "S3Client", bucket: str, key: str, limit: int, **arguments: Any) -> tuple[bytes, str]:
    """A small object's content and its ETag.

    Raises:
        ValueError: it has more than `limit` bytes.
        FileNotFoundError, NotModified, FetchError: as `get`.
    """
    response = get(client, bucket, key, **arguments)
    if response["ContentLength"] > limit:
        response["Body"].close()
        raise ValueError(f"{response['ContentLength']} bytes are more than such a document can have")
    try:
        return b"".join(_pieces(response, key)), str(response["ETag"])
    except _StreamError as error:
        raise FetchError(str(error), retryable=True) from error


def fetch(
    client: "S3Client",
    bucket: str,
    key: str,
    size: int,
    target: Path,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Read an object of a known size into a new file, and return the SHA-256 of what arrived, in hex.

    Args:
        size: the object's size in bytes; another size is an error before anything is read.
        target: the file to make.
        deadline: on `clock`; when it has passed, nothing more is read.

    Raises:
        FileNotFoundError: there is no such object.
        FetchError: its size differs, or it could not be read in the attempts and the time there are.
        OSError: the file cannot be written, for example because the disk is full.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if size:
            # Reserves the room now: a full disk is found before the first byte, and never by a fault in mapped memory.
            os.posix_fallocate(descriptor, 0, size)
        transfer = _Transfer(client, bucket, key, size, descriptor, deadline, clock)
        ranges = [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)] or [(0, 0)]
        with ThreadPoolExecutor(min(PARALLEL, len(ranges)), thread_name_prefix="fetch") as pool:
            parts = [pool.submit(transfer.fetch_range, first, last) for first, last in ranges]
            try:
                return _hash_behind(parts, ranges, transfer)
            finally:
                transfer.give_up()
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        os.close(descriptor)


def _hash_behind(parts: list["Future[None]"], ranges: list[tuple[int, int]], transfer: "_Transfer") -> str:
    """Hash each range once it and all before it are there; the failure of any range, and the deadline, end it at once."""
    digest = hashlib.sha256()
    view = memoryview(bytearray(HASH_BYTES))
    pending = set(parts)
    for part, (first, last) in zip(parts, ranges, strict=True):
        while part in pending:
            done, pending = wait(pending, transfer.remaining, FIRST_COMPLETED)
            for finished in done:
                finished.result()
            if not done:
                raise transfer.too_late()
        position = first
        while position < last:
            count = os.preadv(transfer.descriptor, [view[: min(HASH_BYTES, last - position)]], position)
            digest.update(view[:count])
            position += count
    return digest.hexdigest()


class _BrokenOffError(Exception):
    """A read ended before its range did; it can be taken up at `position`."""

    def __init__(self, position: int, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.position = position
        self.retryable = retryable


@dataclass
class _Transfer:
    """What all ranges of one object share."""

    client: "S3Client"
    bucket: str
    key: str
    size: int
    descriptor: int
    deadline: float
    clock: Callable[[], float]
    stop: threading.Event = field(default_factory=threading.Event)
    _open: set["StreamingBody"] = field(default_factory=set)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - self.clock())

    def too_late(self) -> FetchError:
        """What to raise when the deadline has passed."""
        return FetchError(f"There was not enough time to read {self.key}", retryable=True)

    def give_up(self) -> None:
        """Let every range that is still being read end soon, even one whose bytes arrive ever so slowly."""
        self.stop.set()
        for body in list(self._open):
            _limit_wait(body, 0.01)

    def fetch_range(self, first: int, last: int) -> None:
        """Read bytes [first, last) into their place; a connection that breaks is taken up where it broke."""
        position, pause, failures = first, FIRST_PAUSE_SECONDS, 0
        while True:
            if self.stop.is_set() or not self.remaining:
                raise self.too_late()
            try:
                self._read(position, last)
                return
            except _BrokenOffError as broken:
                failures = 1 if broken.position > position else failures + 1
                position = broken.position
                if not broken.retryable or failures >= ATTEMPTS or not self.remaining:
                    raise FetchError(str(broken), retryable=broken.retryable) from broken
                # Full jitter, so that readers that failed together do not return together
                # (AWS Architecture Blog, "Exponential Backoff And Jitter").
                self.stop.wait(min(self.remaining, random.uniform(0, pause)))  # noqa: S311 (not a secret)
                pause *= 2

    def _read(self, position: int, last: int) -> None:
        """One attempt: from `position` on, as far as it goes."""
        arguments = {"Range": f"bytes={position}-{last - 1}"} if last > position else {}
        try:
            response = get(self.client, self.bucket, self.key, **arguments)
        except FetchError as error:
            raise _BrokenOffError(position, str(error), retryable=error.retryable) from error
        body: StreamingBody = response["Body"]
        with contextlib.closing(body):
            self._check_range(response, position, last)
            if last > position:
                _limit_wait(body, min(READ_SECONDS, self.remaining + 0.01))
                self._open.add(body)
            try:
                for piece in _pieces(response, self.key):
                    if self.stop.is_set() or not self.remaining:
                        raise self.too_late()
                    _write(self.descriptor, piece[: last - position], position)
                    position += len(piece)
            except _StreamError as error:
                raise _BrokenOffError(position, str(error), retryable=True) from error
            finally:
                self._open.discard(body)
        if position < last:
            raise _BrokenOffError(position, f"{self.key} ended early, at byte {position}", retryable=True)

    def _check_range(self, response: Mapping[str, Any], first: int, last: int) -> None:
        """Hold what S3 is about to send against what was asked for, before a byte of it is written."""
        answered = str(response.get("ContentRange", f"/{response['ContentLength']}"))
        found = answered.rpartition("/")[2]
        if found != str(self.size):
            raise FetchError(f"{self.key} has {found} bytes, but the manifest says {self.size}", retryable=False)
        if last > first and answered != f"bytes {first}-{last - 1}/{self.size}":
            raise FetchError(f"{self.key}: bytes {first}-{last - 1} were asked for, and others came", retryable=True)


def _limit_wait(body: "StreamingBody", seconds: float) -> None:
    """Let the next read from the network wait so long at most."""
    # A body that was read to its end has no socket any more.
    with contextlib.suppress(AttributeError, OSError):
        body.set_socket_timeout(max(seconds, 0.001))


def _write(descriptor: int, piece: bytes, position: int) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count


class _StreamError(Exception):
    """The network failed in the middle of a body."""


def _pieces(response: Mapping[str, Any], key: str) -> Iterator[bytes]:
    """The body, piece by piece.

    Raises:
        _StreamError: whatever botocore, urllib3 and the network raise.
    """
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    while True:
        try:
            piece: bytes = response["Body"].read(PIECE_BYTES)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise _StreamError(f"Reading {key} broke off: {error}") from error
        if not piece:
            return
        yield piece
