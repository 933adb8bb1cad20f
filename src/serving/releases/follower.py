"""Follows a channel: a running function takes up another release within seconds.

After a request is answered, and at most every `refresh_seconds`, a thread looks at the channel's pointer (one
conditional GET). Where the pointer has changed, `Swapper` brings the releases that it names into service.

Without a release a request has to wait for that thread, but only for `wait_seconds`: then it is refused with the
reason, and the thread goes on.
"""

import contextvars
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.errors import DeadlyReleaseError, ReleaseUnavailableError
from serving.releases.format import Channel
from serving.releases.looking import LookThread
from serving.releases.reading import ChannelReader, ReadAhead, ReleaseSource
from serving.releases.reporting import Counters, ReleaseLog
from serving.releases.slot import InService, LoadedRelease, Slot
from serving.releases.swapper import Swapper

# A release that was refused is tried again after longer and longer pauses. Its objects may be repaired in place; more
# often the pointer moves on, which is noticed at the normal pace.
LONGEST_PAUSE_SECONDS = 300.0
# How long a copy of a snapshot waits for the release that the channel names now. Lambda ends a restore after ten
# seconds.
RESUME_SECONDS = 5.0


@dataclass(frozen=True)
class RefreshPace:
    """How often to look at the pointer, and how long to wait for a first release, in seconds.

    Attributes:
        refresh_seconds: between two looks with a release in service.
        retry_seconds: between two looks without one.
        wait_seconds: how long a start or a request waits at most where there is no release yet.
        lend_seconds: how long a request stays at most for a look that was frozen between requests.
    """

    refresh_seconds: float
    retry_seconds: float
    wait_seconds: float = 5.0
    lend_seconds: float = 0.0


@dataclass
class _Pointer:
    """The channel as it was last read, and whether what it names has yet to come into service."""

    channel: Channel | None = None
    etag: str | None = None
    pending: bool = False
    failures: int = 0
    retry_at: float = field(default=-math.inf)


class Follower:
    """Keeps a slot at what a channel names.

    A function without a usable release starts all the same, since an environment is expensive to start. It serves as
    soon as a release is published.

    Args:
        reader: reads the channel.
        swapper: brings what the channel names into the slot.
        slot: what serves.
        pace: how often to look.
        log: takes what happens.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reader: ChannelReader,
        swapper: Swapper,
        slot: Slot,
        pace: RefreshPace,
        log: ReleaseLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._swapper = swapper
        self._slot = slot
        self._pace = pace
        self._log = log
        self._clock = clock
        self._pointer = _Pointer()
        self._problem: ReleaseUnavailableError | None = None
        self._next_check = -math.inf
        # What the thread looks at next: what was read ahead, if the start did not wait for its end.
        self._source: ReleaseSource = reader
        # One refresh at a time, in whichever thread.
        self._refreshing = threading.Lock()
        # Requests without a release begin one look together.
        self._healing = threading.Lock()
        self._thread = LookThread(self._look)

    @property
    def channel(self) -> str:
        """The channel's name."""
        return self._reader.channel

    @property
    def counters(self) -> Counters:
        """What following the channel has done so far."""
        return self._log.counters

    def start(self, ahead: ReadAhead | None = None) -> None:
        """Load the channel's release if it has one. A failure is kept: `use` raises it.

        Args:
            ahead: what was read ahead; None to read S3 now. If it is not ready within `wait_seconds`, the thread takes
                it up later.
        """
        if ahead is None or ahead.wait(self._pace.wait_seconds):
            with self._refreshing:
                self._refresh(ahead or self._reader)
            return
        self._failed(self._still_looking())
        self._source = ahead
        self._begin_look()

    def suspend(self) -> None:
        """Finish what is going on, and give up connections and credentials: Lambda is about to take a snapshot."""
        self._thread.wait()
        with self._refreshing:
            self._next_check = math.inf
            self._reader.close()

    def resume(self) -> None:
        """After a snapshot: serve what the channel names now, with new connections and credentials.

        Where that takes too long for a restore, the snapshot's release serves until it is done.
        """
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self.start,), name="release-resume", daemon=True)
        thread.start()
        thread.join(RESUME_SECONDS)

    def use(self, key: Callable[[], bytes]) -> "_Use":
        """The release that answers a request, as a context manager for as long as the request is being answered.

        Args:
            key: gives the bytes that decide between the current release and a canary. The same bytes get the same
                release.

        Raises:
            ReleaseUnavailableError: no release can serve; the message says why.
        """
        return _Use(self, self._slot, key)

    def peek(self) -> LoadedRelease:
        """The current release, for a report about it. Raises as `use`."""
        self.look_if_due()
        return (self._slot.in_service or self.heal()).current

    def heal(self) -> InService:
        """Without a release nothing can answer, so this request waits for a look at the channel, if it is time for one.

        Raises:
            ReleaseUnavailableError: as `use`, at the latest after `wait_seconds`.
        """
        with self._healing:
            if self._slot.in_service is None and self._clock() >= self._next_check:
                self._begin_look()
        has_ended = self._thread.wait(self._pace.wait_seconds)
        in_service = self._slot.in_service
        if in_service is not None:
            return in_service
        problem = self._problem if has_ended else self._still_looking()
        assert problem is not None
        # A new object: each request has a traceback of its own.
        raise ReleaseUnavailableError(problem.code, str(problem))

    def look_if_due(self) -> None:
        """Wake the thread that looks at the pointer, if it is time to."""
        if self._slot.in_service is not None and self._clock() >= self._next_check:
            self._begin_look()

    def lend(self) -> None:
        """Stay at most `lend_seconds` for a look that was frozen between requests."""
        self._thread.lend(self._pace.lend_seconds)

    def _still_looking(self) -> ReleaseUnavailableError:
        return ReleaseUnavailableError(
            "storage_unavailable",
            f"There is no release yet: {self._reader.step} takes longer than {self._pace.wait_seconds:g} s, and goes on",
        )

    def _begin_look(self) -> None:
        self._next_check = math.inf
        self._thread.begin()

    def _look(self) -> None:
        source, self._source = self._source, self._reader
        with self._refreshing:
            self._refresh(source)

    def _refresh(self, source: ReleaseSource) -> None:
        """One look at the pointer, and what follows from it. Never raises; decides when the next look is due."""
        try:
            self._log.checked()
            self._follow_pointer(source)
        except DeadlyReleaseError as problem:
            self._fall_back()
            self._failed(problem)
        except ReleaseUnavailableError as problem:
            self._failed(problem)
        except Exception as error:
            reason = f"Following the channel failed: {type(error).__name__}: {error}"
            self._failed(ReleaseUnavailableError("release_refused", reason))
        has_release = self._slot.in_service is not None
        self._next_check = self._clock() + (self._pace.refresh_seconds if has_release else self._pace.retry_seconds)

    def _follow_pointer(self, source: ReleaseSource) -> None:
        state = source.pointer(self._pointer.etag)
        if state is not None:
            self._pointer = _Pointer(state.channel, state.etag, pending=True)
        pointer = self._pointer
        if not pointer.pending or self._clock() < pointer.retry_at or pointer.channel is None:
            return
        self._swapper.bring(pointer.channel, source)
        pointer.pending = False
        self._problem = None
        self._log.settled()

    def _fall_back(self) -> None:
        """What the channel names ends the process: the last release that was loaded here serves, if there is one."""
        try:
            self._swapper.fall_back()
        except ReleaseUnavailableError as problem:
            self._log.refused(problem)

    def _failed(self, problem: ReleaseUnavailableError) -> None:
        # Without its traceback, which holds what was loaded of a model that failed.
        self._problem = ReleaseUnavailableError(problem.code, str(problem))
        self._log.refused(problem)
        pointer = self._pointer
        if pointer.pending and self._slot.in_service is not None:
            pointer.failures += 1
            pause = min(LONGEST_PAUSE_SECONDS, self._pace.refresh_seconds * 2.0**pointer.failures)
            pointer.retry_at = self._clock() + pause * random.uniform(0.5, 1)  # noqa: S311 (not a secret)


# A class and not a generator, as in `serving.telemetry.receipts`: it runs with every request.
class _Use:
    __slots__ = ("_follower", "_key", "_slot")

    def __init__(self, follower: Follower, slot: Slot, key: Callable[[], bytes]) -> None:
        self._follower, self._slot, self._key = follower, slot, key

    def __enter__(self) -> LoadedRelease:
        release = self._slot.begin(self._key)
        if release is not None:
            return release
        try:
            return self._follower.heal().pick(self._key)
        except BaseException:
            self._slot.end()
            raise

    def __exit__(self, *_: object) -> None:
        self._slot.end()
        # Now, and not before the model ran: while the answer is computed, no other thread competes for the interpreter.
        self._follower.lend()
        self._follower.look_if_due()
