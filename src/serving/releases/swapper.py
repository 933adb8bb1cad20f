"""From a channel's pointer to the slot.

The releases that a channel names are loaded beside those in service, and one assignment swaps them in. Whatever fails,
the last good model goes on serving. Where memory is too small for two models, the new one is loaded in place of the old
one: requests wait for that swap, and where it fails the old model is loaded again before they go on.
"""

from serving.errors import DeadlyReleaseError, ReleaseUnavailableError
from serving.releases.format import Channel, ReleaseRef
from serving.releases.loader import Loader
from serving.releases.reading import ChannelReader, PreparedRelease, ReleaseSource
from serving.releases.reporting import ReleaseLog
from serving.releases.slot import InService, LoadedRelease, Slot


class Swapper:
    """Brings releases into a slot. One thread at a time may use it.

    Args:
        slot: where they serve.
        reader: reads the old release again after a failed swap in place, and keeps the cache small.
        loader: builds the models.
        log: takes what happens.
    """

    def __init__(self, slot: Slot, reader: ChannelReader, loader: Loader, log: ReleaseLog) -> None:
        self._slot = slot
        self._reader = reader
        self._loader = loader
        self._log = log

    def bring(self, channel: Channel, source: ReleaseSource) -> None:
        """Have the slot serve what the channel names. A release that serves already is not loaded again.

        Raises:
            ReleaseUnavailableError: the current release or the canary cannot serve. The last good model goes on
                serving.
        """
        before = self._slot.in_service
        if before is not None:
            # What neither serves nor will serve makes room on the disk.
            coming = {ref.version for ref in (channel.current, channel.canary) if ref is not None}
            self._reader.keep_only({each.version for each in before.releases} | coming)
        with self._reader.reading():
            known = None if before is None else before.find(channel.current)
            current = known or self._load(channel.current, source)
            canary = None if before is None else before.find(channel.canary)
            share = channel.canary.share if channel.canary is not None else 0.0
            # From here on the current release serves, whatever becomes of the canary.
            self._swap(before, InService(current, canary, share if canary else 0.0))
            if channel.canary is not None and canary is None:
                canary = self._load_beside(channel.canary, source)
                self._swap(before and InService(current), InService(current, canary, share))
        named = [channel.current, channel.previous, channel.canary]
        self._reader.keep_only({ref.version for ref in named if ref is not None})

    def fall_back(self) -> None:
        """Where nothing serves, have the slot serve the release that this environment loaded last, from its cache.

        Raises:
            ReleaseUnavailableError: there is one, and it cannot serve either.
        """
        ref = self._loader.marks.last_good()
        if ref is None or self._slot.in_service is not None:
            return
        with self._reader.reading():
            self._swap(None, InService(self._loader.build(self._reader.prepare(ref))))

    def _swap(self, before: InService | None, after: InService) -> None:
        self._slot.in_service = after
        if before is None or not before.answers_as(after):
            self._log.swapped(before, after)

    def _load(self, ref: ReleaseRef, source: ReleaseSource) -> LoadedRelease:
        """The model of the coming current release: beside those in service, or in their place where memory is short."""
        in_service = self._slot.in_service
        prepared = source.prepare(ref)
        if in_service is None or self._loader.fits_beside(prepared):
            return self._loader.build(prepared)
        size = prepared.manifest.size
        if in_service.canary is not None:
            reason = f"The canary ends. {self._loader.memory_problem(prepared)}"
            self._log.memory_is_short(ref.version, size, reason)
            with self._slot.drained():
                self._slot.in_service = InService(in_service.current)
                in_service.canary.unload()
            if self._loader.fits_beside(prepared):
                return self._loader.build(prepared)
        reason = f"Requests wait for the swap. {self._loader.memory_problem(prepared)}"
        self._log.memory_is_short(ref.version, size, reason)
        return self._load_in_place(prepared, in_service.current)

    def _load_beside(self, ref: ReleaseRef, source: ReleaseSource) -> LoadedRelease:
        """The model of a canary. It never takes the place of the current release."""
        try:
            return self._loader.build(source.prepare(ref, beside=True))
        except DeadlyReleaseError:
            raise
        except ReleaseUnavailableError as problem:
            raise ReleaseUnavailableError(problem.code, f"The canary cannot serve. {problem}") from problem

    def _load_in_place(self, prepared: PreparedRelease, old: LoadedRelease) -> LoadedRelease:
        """Requests wait; the old model goes and the new one comes. Where that fails, the old one comes back.

        The files of both releases are verified before the old model goes. Without room for both, nothing begins.
        """
        try:
            way_back = self._reader.prepare(old.ref)
        except ReleaseUnavailableError as problem:
            raise ReleaseUnavailableError(
                problem.code,
                f"{self._loader.memory_problem(prepared)}. A swap in place did not begin, since there is no way back: {problem}",
            ) from problem
        with self._slot.drained():
            self._slot.in_service = None
            old.unload()
            failed = None
            try:
                new = self._loader.build(prepared)
            except ReleaseUnavailableError as problem:
                # Without its traceback: what was loaded of the new model goes before the old one comes.
                failed = type(problem)(problem.code, str(problem))
            if failed is not None:
                self._slot.in_service = InService(self._loader.build(way_back))
                raise failed
            # Before the next request begins.
            self._slot.in_service = InService(new)
            return new
