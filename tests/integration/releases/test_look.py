"""Looks at a pointer: one conditional request where nothing changed, whatever the way to S3."""

import pytest

from integration.releases.samples import put_release
from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from serving.errors import ReleaseUnavailableError
from serving.releases.store import PointerState, ReleaseStore
from serving.settings import AwsEnvironment
from serving.storage.boto import BotoObjects, open_client
from serving.storage.signed import SignedObjects


@pytest.fixture(params=["signed", "boto3"])
def known(
    request: pytest.FixtureRequest,
    bucket: Bucket,
    proxy: FaultyProxy,
    aws: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> ReleaseStore:
    """The read side of a bucket with a channel, by way of the proxy."""
    variables = {**aws, "AWS_ENDPOINT_URL_S3": proxy.url}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    channels.promote(bucket, "live", put_release(bucket, 0))
    by_boto3 = request.param == "boto3"
    objects = BotoObjects(open_client()) if by_boto3 else SignedObjects(AwsEnvironment.from_environment(variables))
    return ReleaseStore(objects, bucket.name, cache=None, fetch_seconds=30)  # type: ignore[arg-type]


def read(store: ReleaseStore) -> PointerState:
    """The channel, in full."""
    state = store.channel("live")
    assert state is not None
    return state


def test_what_did_not_change_is_one_request(known: ReleaseStore, proxy: FaultyProxy) -> None:
    """However often one looks, each look is one request, answered with 304."""
    state = read(known)
    assert [known.channel("live", state.etag) for _ in range(5)] == [None] * 5
    assert [status for _, status in proxy.answered] == [200] + [304] * 5


def test_what_changed_is_read(known: ReleaseStore, bucket: Bucket) -> None:
    """A pointer that moved is returned as it is now, and is then the one that is looked for."""
    state = read(known)
    ref = put_release(bucket, 1)
    channels.promote(bucket, "live", ref)
    moved = known.channel("live", state.etag)
    assert moved is not None
    assert moved.channel.current == ref
    assert known.channel("live", moved.etag) is None


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(refuse=True)], ids=["503", "reset"])
def test_one_fault_is_tried_again(known: ReleaseStore, proxy: FaultyProxy, bucket: Bucket, fault: Fault) -> None:
    """A server's error and a broken connection neither hide a move nor count as a failure, if they do not come twice."""
    state = read(known)
    channels.promote(bucket, "live", put_release(bucket, 1))
    faults = [fault]
    proxy.fault = lambda method, path: faults.pop() if faults else None
    assert known.channel("live", state.etag) is not None
    assert not faults


@pytest.mark.parametrize(
    "fault", [Fault(status=403), Fault(status=500), Fault(refuse=True)], ids=["403", "500", "reset"]
)
def test_faults_that_last_are_told(known: ReleaseStore, proxy: FaultyProxy, fault: Fault) -> None:
    """What S3 or the network refuse again and again is an error of storage, never "nothing changed"."""
    state = read(known)
    proxy.fault = lambda method, path: fault
    with pytest.raises(ReleaseUnavailableError) as caught:
        known.channel("live", state.etag)
    assert caught.value.code == "storage_unavailable"
