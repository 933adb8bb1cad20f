"""Downloads one object of S3 into one file: ranges in parallel, each written to its place, hashed as they arrive.

The file is the only copy, on the disk or in memory. A range goes from the socket to its place with `pwrite`, one small
piece at a time. The hash follows behind: it reads each range once all ranges before it have arrived, while it is still
in memory. safetensors then maps the file.
"""

import contextlib
import hashlib
import os
import random
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from serving.storage.deadline import AWAKE, TICK_SECONDS, Deadline
from serving.storage.objects import READ_SECONDS, FetchError, Objects, OpenedObject, pieces

# One connection does not fill the network. AWS's performance guidelines advise ranges of 8-16 MB over several
# connections.
PART_BYTES = 8 * 1024 * 1024
PARALLEL = 8
# Each piece that is hashed takes the interpreter once, so large pieces let the hash keep up with all connections.
HASH_BYTES = 1024 * 1024
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1


def fetch(objects: Objects, bucket: str, key: str, size: int, target: Path, deadline: Deadline) -> str:
    """Read an object of a known size into a new file, and return the SHA-256 of what arrived, in hex.

    Args:
        size: the object's size in bytes. Another size is an error before anything is read.
        target: the file to make.
        deadline: for the whole object. After it, nothing more is read.

    Raises:
        FileNotFoundError: there is no such object.
        FetchError: its size differs, or it could not be read within ATTEMPTS and the deadline.
        OSError: the file cannot be written, for example because the disk is full.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if size:
            # Reserves the space now: a full disk is an error here, and not a crash when mapped memory is read later.
            os.posix_fallocate(descriptor, 0, size)
        return fetch_into(objects, bucket, key, size, descriptor, deadline)
    finally:
        os.close(descriptor)


def fetch_into(objects: Objects, bucket: str, key: str, size: int, descriptor: int, deadline: Deadline) -> str:
    """As `fetch`, into a file of this size that is open for reading and writing."""
    # A deadline of its own: when one range fails, the others end, and the caller's deadline stays.
    transfer = _Transfer(objects, bucket, key, size, descriptor, deadline.within(deadline.remaining))
    ranges = [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)] or [(0, 0)]
    with ThreadPoolExecutor(min(PARALLEL, len(ranges)), thread_name_prefix="fetch") as pool:
        parts = [pool.submit(transfer.fetch_range, first, last) for first, last in ranges]
        try:
            return _hash_behind(parts, ranges, transfer)
        finally:
            transfer.deadline.end()
            pool.shutdown(wait=True, cancel_futures=True)


def _hash_behind(parts: list["Future[None]"], ranges: list[tuple[int, int]], transfer: "_Transfer") -> str:
    """Hash each range once it and all ranges before it have arrived.

    A range that fails, or the deadline, ends this at once.
    """
    digest = hashlib.sha256()
    view = memoryview(bytearray(HASH_BYTES))
    pending = set(parts)
    for part, (first, last) in zip(parts, ranges, strict=True):
        while part in pending:
            done, pending = wait(pending, min(TICK_SECONDS / 2, transfer.deadline.remaining), FIRST_COMPLETED)
            for finished in done:
                finished.result()
            if not done and not transfer.deadline.remaining:
                raise transfer.too_late()
        position = first
        while position < last:
            count = os.preadv(transfer.descriptor, [view[: min(HASH_BYTES, last - position)]], position)
            digest.update(view[:count])
            position += count
    return digest.hexdigest()


class _BrokenOffError(Exception):
    """A read ended before its range did. Another attempt can go on at `position`."""

    def __init__(self, position: int, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.position = position
        self.retryable = retryable


@dataclass
class _Transfer:
    """What the ranges of one object share."""

    objects: Objects
    bucket: str
    key: str
    size: int
    descriptor: int
    deadline: Deadline

    def too_late(self) -> FetchError:
        """What to raise when the deadline has passed."""
        return FetchError(f"There was not enough time to read {self.key}", retryable=True)

    def fetch_range(self, first: int, last: int) -> None:
        """Read bytes [first, last) into their place. After a broken connection, reading goes on where it broke."""
        position, pause, failures = first, FIRST_PAUSE_SECONDS, 0
        while True:
            if not self.deadline.remaining:
                raise self.too_late()
            lost = AWAKE.lost()
            try:
                self._read(position, last)
                return
            except _BrokenOffError as broken:
                # S3 ends connections of a function that is frozen for long. That says nothing about S3.
                was_frozen = AWAKE.lost() - lost > READ_SECONDS
                failures = 1 if was_frozen or broken.position > position else failures + 1
                position = broken.position
                if not broken.retryable or failures >= ATTEMPTS or not self.deadline.remaining:
                    raise FetchError(str(broken), retryable=broken.retryable) from broken
                # Full jitter: readers that failed at the same time try again at different times
                # (AWS Architecture Blog, "Exponential Backoff And Jitter").
                self.deadline.pause(random.uniform(0, pause))  # noqa: S311 (not a secret)
                pause *= 2

    def _read(self, position: int, last: int) -> None:
        """One attempt: read from `position` on until `last`, or until the connection breaks."""
        byte_range = f"bytes={position}-{last - 1}" if last > position else None
        try:
            found = self.objects.get(self.bucket, self.key, byte_range=byte_range, deadline=self.deadline)
        except FetchError as error:
            raise _BrokenOffError(position, str(error), retryable=error.retryable) from error
        body = found.body
        with contextlib.closing(body):
            self._check_range(found, position, last)
            try:
                for piece in pieces(body):
                    if not self.deadline.remaining:
                        raise self.too_late()
                    _write(self.descriptor, piece[: last - position], position)
                    position += len(piece)
                    # An answer that goes on for ever is read no further.
                    if position >= last:
                        break
            except (ConnectionError, TimeoutError) as error:
                message = f"Reading {self.key} broke off: {error or type(error).__name__}"
                raise _BrokenOffError(position, message, retryable=True) from error
        if position < last:
            raise _BrokenOffError(position, f"{self.key} ended early, at byte {position}", retryable=True)

    def _check_range(self, answer: OpenedObject, first: int, last: int) -> None:
        """Compare what S3 is about to send with what was asked for, before a byte of it is written."""
        answered = answer.content_range or f"/{answer.length}"
        found = answered.rpartition("/")[2]
        if found != str(self.size):
            raise FetchError(f"{self.key} has {found} bytes, but the manifest says {self.size}", retryable=False)
        if last > first and answered != f"bytes {first}-{last - 1}/{self.size}":
            raise FetchError(f"{self.key}: S3 sent other bytes than {first}-{last - 1}", retryable=True)


def _write(descriptor: int, piece: bytes, position: int) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
