"""What serves: the current release and perhaps a canary.

This module knows neither S3 nor how a release comes into the slot.

A request reads one reference and never waits for storage. A swap is one assignment; requests that are being answered
finish on the release they began with. Only a swap in place, for which memory is too small for two models, makes
requests wait.
"""

import contextlib
import gc
import hashlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from serving.contract import ServedModel
from serving.errors import ReleaseUnavailableError
from serving.releases.format import ReleaseRef

# How long a swap in place waits for requests that still use the old model.
DRAIN_SECONDS = 60.0


class LoadedRelease:
    """A release with its model in memory.

    Attributes:
        ref: the release.
        created: when the release was made (UTC).
        since: when the model was loaded (UTC).
        takes_deadline: whether the model's `predict` wants to know how much time it has.
    """

    def __init__(self, model: ServedModel, ref: ReleaseRef, created: datetime, since: datetime) -> None:
        self._model: ServedModel | None = model
        self.ref = ref
        self.created = created
        self.since = since
        self.takes_deadline = takes_deadline(getattr(model, "predict", None))

    @property
    def model(self) -> ServedModel:
        """The model. It must not be read after `unload`."""
        assert self._model is not None
        return self._model

    @property
    def version(self) -> str:
        """The release's version."""
        return self.ref.version

    @property
    def is_loaded(self) -> bool:
        """Whether the model is still in memory."""
        return self._model is not None

    def unload(self) -> None:
        """Give the model's memory back, even where other code still holds this object."""
        self._model = None
        gc.collect()


def takes_deadline(method: Callable[..., object] | None) -> bool:
    """Whether a method of a model has a parameter `deadline`."""
    try:
        return method is not None and "deadline" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # what is written in C may have no signature
        return False


@dataclass(frozen=True)
class InService:
    """The releases that answer requests.

    Attributes:
        current: the channel's current release.
        canary: the release that answers a share of the requests; None without one.
        share: the canary's share, from 0 to 1.
    """

    current: LoadedRelease
    canary: LoadedRelease | None = None
    share: float = 0.0

    @property
    def releases(self) -> list[LoadedRelease]:
        """The current release, and the canary if there is one."""
        return [self.current] if self.canary is None else [self.current, self.canary]

    def pick(self, key: Callable[[], bytes]) -> LoadedRelease:
        """The release that answers a request with this key. The same bytes always get the same release."""
        if self.canary is not None and _fraction(key()) < self.share:
            return self.canary
        return self.current

    def find(self, ref: ReleaseRef | None) -> LoadedRelease | None:
        """This release, if it is one of those that answer now.

        A release under another hash of its manifest is not the same one: the new manifest has not been read yet, and a
        new environment would refuse it if it is wrong.
        """
        if ref is None:
            return None
        wanted = ref.version, ref.manifest_sha256
        found = (each for each in self.releases if (each.version, each.ref.manifest_sha256) == wanted)
        return next((each for each in found if each.is_loaded), None)

    def answers_as(self, other: "InService") -> bool:
        """Whether the same releases answer the same shares."""
        mine, theirs = ([each.version for each in one.releases] for one in (self, other))
        return mine == theirs and self.share == other.share


class Slot:
    """Holds what serves, and counts the requests that use it.

    Example:
        release = slot.begin(key)  # None while the slot is empty
        try:
            ...
        finally:
            slot.end()
    """

    def __init__(self) -> None:
        self.in_service: InService | None = None
        # Requests in flight, for a swap that must wait for them.
        self._change = threading.Condition()
        self._in_flight = 0
        self._closed = False

    def begin(self, key: Callable[[], bytes]) -> LoadedRelease | None:
        """Count one more request in flight. Waits while a swap in place is going on.

        Args:
            key: gives the bytes that decide between the current release and a canary; called only where there is a
                canary.

        Returns:
            The release that answers; None while the slot is empty. `end` must follow, unless this raises.
        """
        with self._change:
            while self._closed:
                self._change.wait()
            self._in_flight += 1
        in_service = self.in_service
        try:
            return None if in_service is None else in_service.pick(key)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Count one request less."""
        with self._change:
            self._in_flight -= 1
            self._change.notify_all()

    def age_seconds(self) -> float | None:
        """How long ago the current release was made; None while the slot is empty."""
        in_service = self.in_service
        return None if in_service is None else time.time() - in_service.current.created.timestamp()

    @contextlib.contextmanager
    def drained(self) -> Iterator[None]:
        """In the body of this `with` statement no request is in flight, and none begins.

        Raises:
            ReleaseUnavailableError: the requests in flight take longer than DRAIN_SECONDS.
        """
        with self._change:
            self._closed = True
            if not self._change.wait_for(lambda: self._in_flight == 0, DRAIN_SECONDS):
                self._open()
                raise ReleaseUnavailableError(
                    "release_refused",
                    f"A swap in place waited {DRAIN_SECONDS:.0f} s for the requests in flight, and they did not end",
                )
        try:
            yield
        finally:
            with self._change:
                self._open()

    def _open(self) -> None:
        self._closed = False
        self._change.notify_all()


def _fraction(key: bytes) -> float:
    """A number in [0, 1) that depends on the key alone, spread evenly."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
