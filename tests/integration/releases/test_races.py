"""Two people at one bucket: nothing is lost, and who comes second is told."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.conftest import new_bucket
from integration.releases.samples import contents, named, put_release
from lambda_torch.errors import BucketError, ConflictError
from lambda_torch.releases import catalog, channels
from lambda_torch.releases.bucket import Bucket, ChannelState
from lambda_torch.releases.publishing import publish
from serving.releases.format import Channel, ReleaseRef


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


def test_a_release_that_is_promoted_while_it_is_collected_comes_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that names a release just as gc removes its manifest gets it back, and its files were not touched."""
    refs = [put_release(bucket, number) for number in range(2)]
    everything = contents(bucket)
    honest = bucket.client.delete_object

    def delete(**arguments: str) -> object:
        with monkeypatch.context() as patch:
            # The promotion has read the manifest already: for it, the removal comes later.
            patch.setattr(Bucket, "release", lambda self, version: None)
            channels.promote(Bucket(bucket.client, bucket.name), "live", refs[0])
        return honest(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bucket.client, "delete_object", delete)
    assert catalog.collect_garbage(bucket, 1) == []
    assert {key: etag for key, etag in contents(bucket).items() if key.startswith("releases/")} == everything
    assert named(bucket) == (refs[0].version, None, None)


@pytest.mark.parametrize("exists", [False, True], ids=["new channel", "existing channel"])
def test_a_promotion_that_comes_too_late_takes_itself_back(
    bucket: Bucket, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a release goes between its promotion's reading and writing, the channel is left as it was."""
    refs = [put_release(bucket, number) for number in range(2)]
    if exists:
        channels.promote(bucket, "live", refs[1])
    honest = Bucket.move

    def move(self: Bucket, *arguments: object, **options: object) -> Channel:
        monkeypatch.setattr(Bucket, "move", honest)
        catalog.collect_garbage(self, 1)
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
            catalog.collect_garbage(bucket, 1)
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
