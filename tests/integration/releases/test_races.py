"""Two people at one bucket: nothing is lost, and who comes second is told."""

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.s3.models import s3_backends

from integration.conftest import new_bucket
from integration.releases.samples import contents, named, put_release
from lambda_torch.errors import BucketError, ConflictError
from lambda_torch.releases import catalog, channels, collecting, leases
from lambda_torch.releases.bucket import Bucket, ChannelState
from lambda_torch.releases.publishing import publish
from serving.releases.format import Channel, ReleaseRef, file_key


class RacingBucket(Bucket):
    """A bucket whose channel two publishers read before either writes."""

    def __init__(self, bucket: Bucket, readers: threading.Barrier) -> None:
        super().__init__(bucket.client, bucket.name)
        self._readers = readers

    def channel(self, name: str) -> ChannelState:
        """Read it, and wait until the other has read it too."""
        state = super().channel(name)
        self._readers.wait(30)
        return state


@pytest.mark.parametrize("exists", [False, True], ids=["new channel", "existing channel"])
def test_of_two_who_publish_at_once_the_second_is_told(bucket: Bucket, folders: list[Path], exists: bool) -> None:
    """Both releases are in the bucket, one is current, the other's publisher gets the next step, and following it works."""
    before = publish(folders[0], bucket).version if exists else None
    readers = threading.Barrier(2)
    outcomes: dict[Path, str | ConflictError] = {}

    def run(folder: Path) -> None:
        try:
            outcomes[folder] = publish(folder, RacingBucket(bucket, readers)).version
        except ConflictError as error:
            outcomes[folder] = error

    threads = [threading.Thread(target=run, args=[folder]) for folder in folders[1:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes.values() if isinstance(outcome, str)]
    ((loser, error),) = [(folder, error) for folder, error in outcomes.items() if isinstance(error, ConflictError)]
    assert "Another command moved the channel 'live'" in str(error)
    assert "Next: " in str(error)
    assert len(bucket.versions()) == 2 + exists
    assert named(bucket) == (winner, before, None)
    again = publish(loser, bucket)
    assert again.sent == ()
    assert named(bucket) == (again.version, winner, None)


def grow_old(bucket: Bucket, **period: float) -> None:
    """Let every object of the bucket be older by this time: moto's server runs in this process."""
    (stored,) = (
        each["aws"].buckets[bucket.name] for each in s3_backends.values() if bucket.name in each["aws"].buckets
    )
    for key in stored.keys.values():
        key.last_modified -= timedelta(**period)


def interrupted(bucket: Bucket, aws: dict[str, str], number: int, act: Callable[[], object]) -> Bucket:
    """The bucket for another process, in which `act` happens just before request `number` (counted from 0) is sent."""
    session = boto3.Session(aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"])
    client = session.client("s3", endpoint_url=aws["AWS_ENDPOINT_URL_S3"], region_name=aws["AWS_DEFAULT_REGION"])
    count, lock = itertools.count(), threading.Lock()

    def before(**_: Any) -> None:
        with lock:
            if next(count) == number:
                act()

    client.meta.events.register("before-send.s3", before)
    return Bucket(client, bucket.name)


def whole(bucket: Bucket) -> str:
    """The version of the current release, every byte of which is there."""
    version = named(bucket)[0]
    assert version is not None
    assert catalog.verify(bucket, bucket.release(version)) == []
    return version


def unnamed(bucket: Bucket, folders: list[Path]) -> str:
    """The version of a release that was published two days ago and that no channel names any more."""
    version, *_ = (publish(folder, bucket).version for folder in folders[:3])
    grow_old(bucket, days=2)
    return version


# More than the requests of a publication or of gc in these tests, so that the last numbers come after everything.
REQUESTS = range(18)


@pytest.mark.parametrize("number", REQUESTS)
def test_a_publication_at_any_moment_of_gc(
    number: int, bucket: Bucket, folders: list[Path], aws: dict[str, str]
) -> None:
    """Of a publication and gc that meet, one gives way: the channel never names a release with a missing file."""
    version = unnamed(bucket, folders)
    before = whole(bucket)
    outcomes: list[str | ConflictError] = []

    def publish_too() -> None:
        try:
            outcomes.append(publish(folders[0], bucket).version)
        except ConflictError as error:
            outcomes.append(error)

    removed = collecting.collect_garbage(interrupted(bucket, aws, number, publish_too), 0)
    if outcomes and isinstance(outcomes[0], ConflictError):
        assert "gc is removing release" in str(outcomes[0])
        assert "Next: " in str(outcomes[0])
        assert whole(bucket) == before
    elif outcomes:
        assert whole(bucket) == version
        assert version not in [each.version for each in removed]
    assert [each for each in bucket.objects("releases/") if leases.is_mark(each)] == []
    assert publish(folders[0], bucket).version == whole(bucket) == version


@pytest.mark.parametrize("number", REQUESTS)
def test_gc_at_any_moment_of_a_publication(
    number: int, bucket: Bucket, folders: list[Path], aws: dict[str, str]
) -> None:
    """Before the lease is written gc removes the files and they are sent again; after that it keeps them."""
    version = unnamed(bucket, folders)
    publication = interrupted(bucket, aws, number, lambda: collecting.collect_garbage(bucket, 0))
    published = publish(folders[0], publication)
    assert published.version == whole(bucket) == version
    assert len(published.sent) == (2 if number <= 1 else 0)


@pytest.mark.parametrize("number", REQUESTS)
def test_a_promotion_at_any_moment_of_gc(number: int, bucket: Bucket, aws: dict[str, str]) -> None:
    """A promotion either moves the channel to a whole release, or says why not and leaves the channel as it was."""
    refs = [put_release(bucket, each) for each in range(2)]
    channels.promote(bucket, "live", refs[1])
    grow_old(bucket, days=2)
    outcomes: list[bool] = []

    def promote_too() -> None:
        try:
            channels.promote(bucket, "live", refs[0])
            outcomes.append(True)
        except BucketError:
            outcomes.append(False)

    collecting.collect_garbage(interrupted(bucket, aws, number, promote_too), 0)
    assert whole(bucket) == refs[0 if outcomes == [True] else 1].version


def test_an_interrupted_gc_is_finished_later(bucket: Bucket, folders: list[Path], aws: dict[str, str]) -> None:
    """What an interrupted gc left is not published over for an hour; then a publication sends what is missing."""

    class KilledError(Exception):
        """The process ends."""

    def kill() -> None:
        raise KilledError

    version = unnamed(bucket, folders)
    sent = 0
    while True:
        try:
            collecting.collect_garbage(interrupted(bucket, aws, sent, kill), 0)
        except KilledError:
            if version not in bucket.versions():
                break
        sent += 1
    with pytest.raises(ConflictError, match="gc is removing release"):
        publish(folders[0], bucket)
    grow_old(bucket, hours=1.1)
    assert publish(folders[0], bucket).version == whole(bucket) == version


def test_a_release_that_a_channel_named_until_now_stays_for_a_day(bucket: Bucket) -> None:
    """The age of grace begins when no channel names a release any more."""
    refs = [put_release(bucket, number) for number in range(3)]
    channels.promote(bucket, "live", refs[0])
    channels.promote(bucket, "live", refs[1])
    grow_old(bucket, days=2)
    channels.promote(bucket, "live", refs[2])
    assert collecting.collect_garbage(bucket, 0) == []
    grow_old(bucket, hours=25)
    assert [each.version for each in collecting.collect_garbage(bucket, 0)] == [refs[0].version]


def test_what_an_unfinished_publication_left_goes_after_the_age_of_grace(bucket: Bucket) -> None:
    """Files without a manifest stay for a day, since a publication may be sending the others."""
    key = f"releases/{'a' * 64}/data.txt"
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"some")
    assert collecting.collect_garbage(bucket, 0) == []
    grow_old(bucket, hours=25)
    assert collecting.collect_garbage(bucket, 0) == [collecting.RemovedRelease("a" * 64, 4)]
    assert contents(bucket) == {}


@pytest.mark.parametrize("exists", [False, True], ids=["new channel", "existing channel"])
def test_a_promotion_that_comes_too_late_takes_itself_back(
    bucket: Bucket, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a release is removed by hand while it is promoted, the channel is left as it was."""
    refs = [put_release(bucket, number) for number in range(2)]
    if exists:
        channels.promote(bucket, "live", refs[1])
    honest = Bucket.move

    def move(self: Bucket, *arguments: object, **options: object) -> Channel:
        monkeypatch.setattr(Bucket, "move", honest)
        self.client.delete_object(Bucket=self.name, Key=file_key(refs[0].version, "manifest.json"))
        return honest(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "move", move)
    with pytest.raises(BucketError, match="was not moved: There is no release"):
        channels.promote(bucket, "live", refs[0])
    if exists:
        assert named(bucket) == (refs[1].version, None, None)
    else:
        assert bucket.channel("live").channel is None


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> tuple[Bucket, list[ReleaseRef]]:
    """A bucket with three releases, for all examples of the property below."""
    client = request.getfixturevalue("client")
    bucket = Bucket(client, new_bucket(client))
    return bucket, [put_release(bucket, number) for number in range(3)]


moves = st.one_of(
    st.tuples(st.just("promote"), st.integers(0, 2)),
    st.tuples(st.just("canary"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["rollback", "end", "gc"]), st.just(0)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(moves, min_size=1, max_size=12))
def test_no_sequence_of_moves_breaks_a_channel(
    sequence: list[tuple[str, int]], shared: tuple[Bucket, list[ReleaseRef]]
) -> None:
    """Promotions, rollbacks, canaries and cleaning up, in any order, do what a plain model of a channel says.

    After each step the document is valid, and every release that it names is in the bucket.
    """
    bucket, refs = shared
    for number in range(3):
        put_release(bucket, number)
    bucket.client.delete_object(Bucket=bucket.name, Key="channels/live.json")
    current: ReleaseRef | None = None
    previous: ReleaseRef | None = None
    canary: ReleaseRef | None = None
    there = set(refs)
    for move, number in sequence:
        ref = refs[number]
        if move == "gc":
            collecting.collect_garbage(bucket, 1, timedelta())
            there &= {
                refs[2],
                *(each for each in (current, previous, canary) if each is not None),
                max(there, key=refs.index),
            }
        elif ref not in there and move in ("promote", "canary"):
            with pytest.raises(BucketError):
                bucket.release(ref.version)
        elif move == "promote":
            channels.promote(bucket, "live", ref)
            if current != ref:
                previous = current
            current, canary = ref, None
        elif move == "rollback":
            if previous is None:
                with pytest.raises(BucketError):
                    channels.rollback(bucket, "live")
            else:
                channels.rollback(bucket, "live")
                current, previous, canary = previous, current, None
        elif current is None or (move == "canary" and ref == current):
            with pytest.raises(BucketError):
                channels.set_canary(bucket, "live", ref if move == "canary" else None, 0.5)
        else:
            canary = ref if move == "canary" else None
            channels.set_canary(bucket, "live", canary, 0.5)
        state = bucket.channel("live").channel
        expected = tuple(each and each.version for each in (current, previous, canary))
        found = (None, None, None) if state is None else named(bucket)
        assert found == expected
        for version in found:
            assert version is None or bucket.release(version)
