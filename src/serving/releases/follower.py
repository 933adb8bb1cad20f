"""The release in service, and how a running function moves to another one.

Requests read one reference and never wait for storage. At most every `refresh_seconds` a request wakes a thread that asks S3
whether the channel's pointer changed (one conditional GET). A new release is fetched, verified, built and checked aside, then put
in place by one assignment; requests that are being answered finish on the model they began with. Whatever fails on the way, the
last good model goes on serving.
"""

import contextlib
import contextvars
import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from serving.errors import ServiceError
from serving.releases.format import Channel, ReleaseRef
from serving.releases.loader import Loaded, Loader, Prepared, example_of
from serving.releases.store import PointerState, ReleaseError, ReleaseStore
from serving.telemetry import receipts

# A release that was refused is tried again, ever more rarely: its objects may be repaired in place, though usually the pointer
# moves on, which is noticed at the normal pace.
LONGEST_PAUSE_SECONDS = 300.0
# How long a swap in place waits for requests that still use the old model.
DRAIN_SECONDS = 60.0
# How long a copy of a snapshot waits for what the channel names by now. Lambda ends a restore after ten seconds.
RESUME_SECONDS = 5.0

Report = Callable[[str, dict[str, Any]], None]
"""Told what happened, for the log: `swapped`, `refused`, `memory`."""


@dataclass(frozen=True)
class _Serving:
    current: Loaded
    canary: Loaded | None = None
    share: float = 0.0

    def models(self) -> list[Loaded]:
        """Current and canary, as far as there are."""
        return [each for each in (self.current, self.canary) if each is not None]

    def named(self) -> tuple[list[str], float]:
        """What answers, for telling two apart."""
        return [each.version for each in self.models()], self.share


@dataclass
class Counters:
    """What the refreshing did so far in this environment."""

    checks: int = 0
    swaps: int = 0
    failures: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Pace:
    """How often to look, in seconds: with a release in service, and without one."""

    refresh_seconds: float
    retry_seconds: float


@dataclass
class _Pointer:
    """The channel as it was last read, and whether what it names is in service yet."""

    channel: Channel | None = None
    etag: str | None = None
    pending: bool = False
    failures: int = 0
    retry_at: float = field(default=-math.inf)


@dataclass
class _Ahead:
    """What was read while the model's code was being imported; `problem` is why the reading ended early."""

    state: PointerState | None = None
    prepared: Prepared | None = None
    problem: Exception | None = None


class CurrentRelease:
    """Holds the release in service.

    A function without a usable release starts all the same: its environment is worth keeping, and it heals by itself when a
    release is published.

    Args:
        open_store: makes the store; called at most once, and not at all where no bucket is set.
        open_loader: makes the loader for that store.
        channel: the channel to follow.
        pace: how often to look.
        report: told what happened.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        open_store: Callable[[], ReleaseStore],
        open_loader: Callable[[ReleaseStore], Loader],
        channel: str,
        pace: Pace,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.channel = channel
        self.counters = Counters()
        self._open_store = open_store
        self._open_loader = open_loader
        self._opened: tuple[ReleaseStore, Loader] | None = None
        self._pace = pace
        self._report = report
        self._clock = clock
        self._pointer = _Pointer()
        self._problem: ReleaseError | None = None
        self._serving: _Serving | None = None
        self._next_check = -math.inf
        # One refresh at a time, in whichever thread.
        self._refreshing = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._reading_ahead: threading.Thread | None = None
        self._ahead: _Ahead | None = None
        # Requests in flight, for a swap that must wait for them.
        self._idle = threading.Condition()
        self._in_flight = 0
        self._closed = False

    def fetch_ahead(self) -> None:
        """Begin, in a thread, with what `start` needs and the model's code does not: the pointer and the release's files."""
        run = contextvars.copy_context().run
        self._reading_ahead = threading.Thread(target=run, args=(self._read_ahead,), name="release-ahead", daemon=True)
        self._reading_ahead.start()

    def start(self) -> None:
        """Load the channel's release if there is one; a failure is kept for `use` to tell."""
        if self._reading_ahead is not None:
            self._reading_ahead.join()
        with self._refreshing:
            self._refresh()
            self._ahead = None

    def suspend(self) -> None:
        """Finish what is going on, and give up connections and credentials: a snapshot is about to be taken."""
        with self._refreshing:
            self._next_check = math.inf
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def resume(self) -> None:
        """After a snapshot: serve what the channel names by now, with new connections and credentials.

        Where that takes too long for a restore, the release of the snapshot serves until it is done.
        """
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self.start,), name="release-resume", daemon=True)
        self._reading_ahead = None
        thread.start()
        thread.join(RESUME_SECONDS)

    def example(self) -> Any | None:
        """A request that the current release can answer; None without one, or where its model has no `example`."""
        serving = self._serving
        return None if serving is None else example_of(serving.current.model)

    def use(self, key: Callable[[], bytes]) -> "_Use":
        """The release that answers this request, for as long as it is being answered.

        Args:
            key: what decides between the current release and a canary; the same bytes get the same release.

        Raises:
            ServiceError: 503 with the reason, where there is no usable release.
        """
        return _Use(self, key)

    def _begin(self, key: Callable[[], bytes]) -> Loaded:
        with self._idle:
            while self._closed:
                self._idle.wait()
            self._in_flight += 1
        try:
            return self._pick(key)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        with self._idle:
            self._in_flight -= 1
            self._idle.notify_all()
        # Now, and not before the model ran: while the answer is on its way, nothing waits for the interpreter.
        self._look_if_due()

    def peek(self) -> Loaded:
        """The current release, for those who only report on it. Raises as `use`."""
        self._look_if_due()
        return self._pick(lambda: b"", canary=False)

    def age_seconds(self) -> float | None:
        """How long ago the current release was made; None while there is none."""
        serving = self._serving
        return None if serving is None else time.time() - serving.current.created.timestamp()

    def _pick(self, key: Callable[[], bytes], *, canary: bool = True) -> Loaded:
        serving = self._serving
        if serving is None:
            return self._heal()
        if canary and serving.canary is not None and _fraction(key()) < serving.share:
            return serving.canary
        return serving.current

    def _look_if_due(self) -> None:
        if self._serving is not None and self._clock() >= self._next_check:
            self._next_check = math.inf
            self._wake_thread()

    def _heal(self) -> Loaded:
        """Without a release there is nothing to serve meanwhile: this request looks itself, if it is time to."""
        with self._refreshing:
            if self._serving is None and self._clock() >= self._next_check:
                self._refresh()
            if self._serving is not None:
                return self._serving.current
            assert self._problem is not None
            pause = str(max(1, math.ceil(self._pace.retry_seconds)))
            raise ServiceError(503, self._problem.code, str(self._problem), headers={"Retry-After": pause})

    def _wake_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._follow, name="release-refresh", daemon=True)
            self._thread.start()
        self._wake.set()

    def _follow(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._refreshing:
                self._refresh()

    def _refresh(self) -> None:
        """One look at the pointer, and what follows from it. Never raises; decides when the next look is due."""
        try:
            self.counters.checks += 1
            self._follow_pointer(*self._open())
        except ReleaseError as problem:
            self._failed(problem)
        except Exception as error:
            self._failed(
                ReleaseError("release_refused", f"Following the channel failed: {type(error).__name__}: {error}")
            )
        pause = self._pace.refresh_seconds if self._serving is not None else self._pace.retry_seconds
        self._next_check = self._clock() + pause

    def _open(self) -> tuple[ReleaseStore, Loader]:
        if self._opened is None:
            with receipts.phase("client"):
                store = self._open_store()
            self._opened = store, self._open_loader(store)
        return self._opened

    def _read_ahead(self) -> None:
        self._ahead = ahead = _Ahead()
        try:
            store, loader = self._open()
            with receipts.phase("pointer"):
                ahead.state = store.channel(self.channel)
            if ahead.state is not None:
                ahead.prepared = loader.prepare(ahead.state.channel.current)
        except Exception as error:
            # `start` meets it where it would have happened without the thread.
            ahead.problem = error

    def _channel_state(self, store: ReleaseStore) -> PointerState | None:
        if self._ahead is not None:
            if self._ahead.state is None and self._ahead.problem is not None:
                raise self._ahead.problem
            return self._ahead.state
        with receipts.phase("pointer"):
            return store.channel(self.channel, self._pointer.etag)

    def _prepared(self, ref: ReleaseRef, loader: Loader) -> Prepared:
        ahead = self._ahead
        if ahead is None:
            return loader.prepare(ref)
        if ahead.prepared is None and ahead.problem is not None:
            raise ahead.problem
        # Another process of this machine may have cleaned up between the two.
        if ahead.prepared is None or not ahead.prepared.folder.is_dir():
            return loader.prepare(ref)
        return ahead.prepared

    def _follow_pointer(self, store: ReleaseStore, loader: Loader) -> None:
        pointer = self._pointer
        state = self._channel_state(store)
        if state is not None:
            self._pointer = pointer = _Pointer(state.channel, state.etag, pending=True)
        if not pointer.pending or self._clock() < pointer.retry_at or pointer.channel is None:
            return
        self._bring_into_service(pointer.channel, store, loader)
        pointer.pending = False
        self._problem = None
        self.counters.problem = None

    def _failed(self, problem: ReleaseError) -> None:
        self._problem = problem
        self.counters.failures += 1
        self.counters.problem = f"{problem.code}: {problem}"
        self._report("refused", {"code": problem.code, "reason": str(problem), "failures": self.counters.failures})
        pointer = self._pointer
        if pointer.pending and self._serving is not None:
            pointer.failures += 1
            pause = min(LONGEST_PAUSE_SECONDS, self._pace.refresh_seconds * 2.0**pointer.failures)
            pointer.retry_at = self._clock() + pause * random.uniform(0.5, 1)  # noqa: S311 (not a secret)

    def _bring_into_service(self, channel: Channel, store: ReleaseStore, loader: Loader) -> None:
        before = self._serving
        if before is not None:
            # What is neither in service nor will be makes room.
            coming = {ref.version for ref in (channel.current, channel.canary) if ref is not None}
            store.keep_only({each.version for each in before.models()} | coming)
        with store.reading():
            current = self._in_service(channel.current, before) or self._load(channel.current, store, loader)
            # A release that is being served is not built again, whichever of the two places it moves to.
            canary = self._in_service(channel.canary, before)
            share = channel.canary.share if channel.canary is not None else 0.0
            # The current release serves from here on, whatever becomes of the canary.
            self._swap(before, _Serving(current, canary, share if canary else 0.0))
            if channel.canary is not None and canary is None:
                canary = self._load_beside(channel.canary, loader)
                self._swap(before and _Serving(current), _Serving(current, canary, share))
        named = [channel.current, channel.previous, channel.canary]
        store.keep_only({ref.version for ref in named if ref is not None})

    def _swap(self, before: _Serving | None, after: _Serving) -> None:
        self._serving = after
        if before is None or before.named() != after.named():
            self.counters.swaps += before is not None
            facts = {
                "release": after.current.version,
                "before": before.current.version if before else None,
                "canary": after.canary.version if after.canary else None,
                "share": after.share,
            }
            self._report("swapped", facts)

    @staticmethod
    def _in_service(ref: ReleaseRef | None, serving: _Serving | None) -> Loaded | None:
        """The release's model, if it is one of those that answer now."""
        if ref is None or serving is None:
            return None
        return next((each for each in serving.models() if each.version == ref.version and each.is_loaded), None)

    def _load(self, ref: ReleaseRef, store: ReleaseStore, loader: Loader) -> Loaded:
        """The model of the coming current release: built beside those in service, or in their place where memory is short."""
        serving = self._serving
        prepared = self._prepared(ref, loader)
        if serving is None or loader.fits_beside(prepared):
            return loader.build(prepared)
        facts = {"release": ref.version, "bytes": prepared.manifest.size}
        if serving.canary is not None:
            self._report("memory", {**facts, "reason": "three models do not fit into memory: the canary ends"})
            with self._drained():
                self._serving = _Serving(serving.current)
                serving.canary.unload()
            if loader.fits_beside(prepared):
                return loader.build(prepared)
        self._report("memory", {**facts, "reason": "two models do not fit into memory: requests wait for the swap"})
        return self._build_in_place(prepared, serving.current, loader)

    def _load_beside(self, ref: ReleaseRef, loader: Loader) -> Loaded:
        """The model of a canary. There is a current release, which it must not cost."""
        prepared = loader.prepare(ref)
        if not loader.fits_beside(prepared):
            raise ReleaseError(
                "release_refused", f"The canary {ref.version} does not fit into memory beside the current release"
            )
        return loader.build(prepared)

    def _build_in_place(self, prepared: Prepared, old: Loaded, loader: Loader) -> Loaded:
        """Requests wait, the old model goes, the new one comes; or the old one again.

        Everything that can be checked on disk was checked before, and what fails after that brings the old release back.
        """
        way_back = loader.prepare(old.ref)
        with self._drained():
            self._serving = None
            old.unload()
            try:
                new = loader.build(prepared)
            except ReleaseError:
                self._serving = _Serving(loader.build(way_back))
                raise
            # Before the next request is let in.
            self._serving = _Serving(new)
            return new

    @contextlib.contextmanager
    def _drained(self) -> Iterator[None]:
        """No request is in flight in here, and none begins."""
        with self._idle:
            self._closed = True
            if not self._idle.wait_for(lambda: self._in_flight == 0, DRAIN_SECONDS):
                self._closed = False
                self._idle.notify_all()
                raise ReleaseError("release_refused", "Requests took too long to finish for a swap in place")
        try:
            yield
        finally:
            with self._idle:
                self._closed = False
                self._idle.notify_all()


# A class and not a generator, as in `serving.telemetry.receipts`: it runs with every request.
class _Use:
    __slots__ = ("_current", "_key")

    def __init__(self, current: CurrentRelease, key: Callable[[], bytes]) -> None:
        self._current, self._key = current, key

    def __enter__(self) -> Loaded:
        return self._current._begin(self._key)

    def __exit__(self, *_: object) -> None:
        self._current._end()


def _fraction(key: bytes) -> float:
    """A number in [0, 1) that depends on the key alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
