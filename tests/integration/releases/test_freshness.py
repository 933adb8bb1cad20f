"""The cheap look at a pointer: it may only ever say that nothing changed; where it cannot say that, the full read is asked."""

import pytest

from integration.releases.samples import put_release
from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from serving import fetching
from serving.freshness import FAILURES_BEFORE_GIVING_UP
from serving.store import PointerState, ReleaseStore


@pytest.fixture
def known(bucket: Bucket, proxy: FaultyProxy, aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ReleaseStore:
    """The read side of a bucket with a channel, by way of the proxy."""
    for name, value in {**aws, "AWS_ENDPOINT_URL_S3": proxy.url}.items():
        monkeypatch.setenv(name, value)
    channels.promote(bucket, "live", put_release(bucket, 0))
    return ReleaseStore(fetching.open_client(), bucket.name, cache=None, fetch_seconds=30)  # type: ignore[arg-type]


def read(store: ReleaseStore) -> PointerState:
    """The channel, in full."""
    state = store.channel("live")
    assert state is not None
    return state


def is_look(path: str) -> bool:
    """Whether a request is a look with a signed URL."""
    return "X-Amz-Signature" in path


def test_what_did_not_change_is_one_request_and_one_signature(known: ReleaseStore, proxy: FaultyProxy) -> None:
    """However often one looks, each look is one request with the same signed URL, answered with 304."""
    state = read(known)
    assert [known.channel("live", state.etag) for _ in range(5)] == [None] * 5
    looks = proxy.answered[1:]
    assert len(looks) == 5
    assert len(set(looks)) == 1
    assert is_look(looks[0][0])
    assert looks[0][1] == 304


def test_what_changed_is_read_in_full(known: ReleaseStore, bucket: Bucket) -> None:
    """A pointer that moved is returned as it is now, and is then the one that is looked for."""
    state = read(known)
    ref = put_release(bucket, 1)
    channels.promote(bucket, "live", ref)
    moved = known.channel("live", state.etag)
    assert moved is not None
    assert moved.channel.current == ref
    assert known.channel("live", moved.etag) is None


@pytest.mark.parametrize(
    "fault", [Fault(status=403), Fault(status=500), Fault(refuse=True)], ids=["403", "500", "reset"]
)
def test_a_look_that_fails_is_a_full_read(
    known: ReleaseStore, proxy: FaultyProxy, bucket: Bucket, fault: Fault
) -> None:
    """An expired signature, a server's error and a broken connection never hide a move, nor pretend that there was one."""
    state = read(known)
    proxy.fault = lambda method, path: fault if is_look(path) else None
    assert known.channel("live", state.etag) is None
    channels.promote(bucket, "live", put_release(bucket, 1))
    assert known.channel("live", state.etag) is not None


def test_where_looks_do_not_get_through_they_end(known: ReleaseStore, proxy: FaultyProxy) -> None:
    """After some failures in a row the full read is all there is; a refusal by S3 is no such failure."""
    state = read(known)
    proxy.fault = lambda method, path: Fault(refuse=True) if is_look(path) else None
    for _ in range(6):
        assert known.channel("live", state.etag) is None
    assert sum(is_look(path) for _, path in proxy.seen) == FAILURES_BEFORE_GIVING_UP
