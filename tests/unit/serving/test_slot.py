"""The slot alone: picking, counting and draining, without S3."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ReleaseUnavailableError
from serving.releases import slot as slots
from serving.releases.format import ReleaseRef
from serving.releases.slot import InService, LoadedRelease, Slot

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def release(letter: str) -> LoadedRelease:
    """A loaded release whose version is this letter."""
    model: Any = object()
    return LoadedRelease(model, ReleaseRef(version=letter * 64, manifest_sha256="0" * 64), NOW, NOW)


@given(st.binary(max_size=20), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_key_always_gets_the_same_release(key: bytes, share: float) -> None:
    """The same bytes get the same release, and a larger share takes no key away from the canary."""
    serving = InService(release("a"), release("b"), share)
    picked = serving.pick(lambda: key)
    assert picked is serving.pick(lambda: key)
    if picked is serving.canary:
        larger = InService(serving.current, serving.canary, (1 + share) / 2)
        assert larger.pick(lambda: key) is serving.canary


def test_a_key_is_only_asked_for_where_there_is_a_canary() -> None:
    """Without a canary nothing is to decide, and no request pays for a hash."""

    def never() -> bytes:
        raise AssertionError("no key is needed")

    current = release("a")
    assert InService(current).pick(never) is current


def test_an_empty_slot_gives_nothing_and_counts_all_the_same() -> None:
    """A request that finds no release is in flight like others, until it ends."""
    slot = Slot()
    assert slot.begin(lambda: b"") is None
    slot.end()
    with slot.drained():
        pass
    assert slot.age_seconds() is None


def test_draining_waits_for_requests_in_flight_and_holds_new_ones_back() -> None:
    """The body runs between the end of the last request and the beginning of the next."""
    slot, order = Slot(), []
    slot.in_service = InService(release("a"))
    assert slot.begin(lambda: b"") is slot.in_service.current
    draining, inside, go_on = threading.Event(), threading.Event(), threading.Event()

    def swap() -> None:
        draining.set()
        with slot.drained():
            order.append("drained")
            inside.set()
            go_on.wait(10)

    def request() -> None:
        slot.begin(lambda: b"")
        order.append("begun")
        slot.end()

    swapping = threading.Thread(target=swap)
    swapping.start()
    draining.wait(10)
    order.append("ended")
    slot.end()
    inside.wait(10)
    waiting = threading.Thread(target=request)
    waiting.start()
    go_on.set()
    swapping.join(10)
    waiting.join(10)
    assert order == ["ended", "drained", "begun"]


def test_requests_that_do_not_end_end_the_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """After DRAIN_SECONDS the swap is given up with the reason, and requests go on."""
    monkeypatch.setattr(slots, "DRAIN_SECONDS", 0.01)
    slot = Slot()
    slot.begin(lambda: b"")
    with pytest.raises(ReleaseUnavailableError, match="did not end"), slot.drained():
        raise AssertionError("the body must not run")
    slot.begin(lambda: b"")
    slot.end()


def test_an_unloaded_release_is_not_found() -> None:
    """What gave its memory back cannot serve again, though it is still named."""
    one, other = release("a"), release("b")
    serving = InService(one, other, 0.5)
    assert serving.find(other.ref) is other
    other.unload()
    assert serving.find(other.ref) is None
    assert serving.find(None) is None
