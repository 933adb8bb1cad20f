"""What a running function does with its channel: canaries, rollbacks, and how often it looks."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from integration.conftest import StartFunction
from integration.serving.proxy import FaultyProxy
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import Published, publish
from model import Model, Request
from serving.releases import deaths, room

PATIENCE_SECONDS = 60.0
REQUESTS = [{"category": "Russian", "start_letters": chr(65 + n // 26) + chr(65 + n % 26)} for n in range(400)]


def ask(app: ModuleType, request: dict[str, str], key: str | None = None) -> tuple[str, str]:
    """The release that answered, and its answer."""
    headers = {} if key is None else {"X-Canary-Key": key}
    event = {"httpMethod": "POST", "path": "/predict", "headers": headers, "body": json.dumps(request)}
    answer = app.lambda_handler(event, None)
    assert answer["statusCode"] == 200, answer
    return answer["headers"]["X-Model-Version"], answer["body"]


def wait_for(app: ModuleType, condition: Callable[[], bool]) -> None:
    """Send requests until the function has seen the channel's move."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        ask(app, REQUESTS[0])
        assert time.monotonic() < end, app.service.follower.counters
        time.sleep(0.005)


def serving(app: ModuleType) -> dict[str, object]:
    """Version to model of what is in service; nothing in the middle of a swap in place."""
    now = app.service.slot.in_service
    return {} if now is None else {each.version: each for each in now.releases}


@pytest.fixture
def published(bucket: Bucket, folders: list[Path]) -> list[Published]:
    """Three releases in the bucket; the first is current."""
    first = publish(folders[0], bucket)
    return [first, *(publish(folder, bucket, channel=None) for folder in folders[1:3])]


@pytest.fixture
def app(published: list[Published], bucket: Bucket, start_function: StartFunction) -> ModuleType:
    """The function, looking at the channel at every opportunity."""
    return start_function(MODEL_BUCKET=bucket.name, RELEASE_REFRESH_SECONDS="0", LOG_LEVEL="ERROR")


def test_a_canary_gets_its_share_by_key_and_stays_with_it(
    app: ModuleType, bucket: Bucket, published: list[Published], folders: list[Path]
) -> None:
    """By body as by X-Canary-Key, the same quarter of the keys always meets the canary, and every answer is its release's own.

    The keys are fixed: 400 draws with p = 0.25 are within 65 and 135 (four standard deviations) or the hash is uneven.
    """
    models = {done.version: Model.load(folder) for done, folder in zip(published, folders, strict=False)}
    live, canary = published[0].version, published[1].version
    channels.set_canary(bucket, "live", published[1].release.ref, 0.25)
    wait_for(app, lambda: canary in serving(app))
    for keys in ([None] * len(REQUESTS), [f"client {number}" for number in range(len(REQUESTS))]):
        first = [ask(app, request, key) for request, key in zip(REQUESTS, keys, strict=True)]
        assert first == [ask(app, request, key) for request, key in zip(REQUESTS, keys, strict=True)]
        counts = Counter(version for version, _ in first)
        assert set(counts) == {live, canary}
        assert 65 < counts[canary] < 135
        for request, (version, answer) in zip(REQUESTS, first, strict=True):
            (expected,) = models[version].predict([Request.model_validate(request)])
            assert answer == expected.model_dump_json()
    # With a key, the body no longer matters.
    assert len({ask(app, request, "client 7")[0] for request in REQUESTS}) == 1


def test_a_larger_share_takes_clients_and_gives_none_back(
    app: ModuleType, bucket: Bucket, published: list[Published]
) -> None:
    """Raising the share moves more clients to the canary; whoever was there stays, and no model is built again."""
    canary = published[1].version
    groups: list[set[int]] = []
    for share in (0.1, 0.5):
        channels.set_canary(bucket, "live", published[1].release.ref, share)
        wait_for(app, lambda: app.service.slot.in_service.share == share)  # noqa: B023
        models = serving(app)
        groups.append({number for number in range(400) if ask(app, REQUESTS[0], f"client {number}")[0] == canary})
        assert serving(app) == models
    assert groups[0] < groups[1]
    assert 150 < len(groups[1]) < 250


def test_promoting_a_canary_keeps_its_model(app: ModuleType, bucket: Bucket, published: list[Published]) -> None:
    """The canary's model becomes the current one as it is; so does the way back, while the old one is the canary."""
    channels.set_canary(bucket, "live", published[1].release.ref, 0.5)
    wait_for(app, lambda: len(serving(app)) == 2)
    canary = serving(app)[published[1].version]
    channels.promote(bucket, "live", published[1].release.ref)
    wait_for(app, lambda: len(serving(app)) == 1)
    assert serving(app) == {published[1].version: canary}


def test_a_rollback_returns(app: ModuleType, bucket: Bucket, published: list[Published]) -> None:
    """After a promotion and a rollback the first release answers again, as it did before, from the cache on disk."""
    before = ask(app, REQUESTS[1])
    channels.promote(bucket, "live", published[1].release.ref)
    wait_for(app, lambda: published[1].version in serving(app))
    assert ask(app, REQUESTS[1])[1] != before[1]
    channels.rollback(bucket, "live")
    wait_for(app, lambda: published[0].version in serving(app))
    assert ask(app, REQUESTS[1]) == before


def test_a_canary_that_does_not_fit_into_memory_costs_nothing(
    app: ModuleType, bucket: Bucket, published: list[Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for a second model the canary is refused with that reason, and the current release answers everything."""
    monkeypatch.setattr(room, "memory_in_use", lambda: 10**15)
    channels.set_canary(bucket, "live", published[1].release.ref, 0.9)
    wait_for(app, lambda: app.service.follower.counters.failures >= 1)
    assert "does not fit into memory" in str(app.service.follower.counters.problem)
    assert {ask(app, request)[0] for request in REQUESTS[:50]} == {published[0].version}


def test_a_promotion_beside_a_canary_finds_its_room(
    app: ModuleType, bucket: Bucket, published: list[Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where three models do not fit, the canary ends first; where two do not fit either, the swap is in place. Nothing fails."""
    channels.set_canary(bucket, "live", published[1].release.ref, 0.5)
    wait_for(app, lambda: len(serving(app)) == 2)
    monkeypatch.setattr(room, "memory_in_use", lambda: 10**15)
    channels.promote(bucket, "live", published[2].release.ref)
    wait_for(app, lambda: published[2].version in serving(app))
    assert set(serving(app)) == {published[2].version}
    assert app.service.follower.counters.failures == 0


def test_what_was_current_may_become_the_canary_where_memory_is_short(
    app: ModuleType, bucket: Bucket, published: list[Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a swap in place the old model is gone: as a canary it is built anew once there is room, and is never asked before."""
    with monkeypatch.context() as patch:
        patch.setattr(room, "memory_in_use", lambda: 10**15)
        channels.promote(bucket, "live", published[1].release.ref)
        channels.set_canary(bucket, "live", published[0].release.ref, 0.5)
        wait_for(app, lambda: app.service.follower.counters.failures >= 1)
        assert {ask(app, request)[0] for request in REQUESTS[:50]} == {published[1].version}
    wait_for(app, lambda: len(serving(app)) == 2)
    assert {ask(app, request)[0] for request in REQUESTS[:50]} == {published[0].version, published[1].version}


def test_the_cache_holds_only_what_the_channel_names(
    app: ModuleType, bucket: Bucket, published: list[Published], tmp_path: Path
) -> None:
    """However many releases come and go, the disk holds the current one, the previous one and no other."""
    for done in (published[1], published[2]):
        channels.promote(bucket, "live", done.release.ref)
        wait_for(app, lambda: done.version in serving(app))  # noqa: B023
    wait_for(app, lambda: not app.service.follower._pointer.pending)
    folders = {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()} - {deaths.FOLDER}
    assert folders == {published[1].version, published[2].version}


POINTER = "/channels/live.json"


def looks(proxy: FaultyProxy) -> list[int]:
    """The statuses of all answers for the pointer."""
    return [status for path, status in proxy.answered if path.partition("?")[0].endswith(POINTER)]


def test_an_unchanged_pointer_is_one_conditional_get(
    published: list[Published], bucket: Bucket, proxy: FaultyProxy, start_function: StartFunction
) -> None:
    """After the start, S3 is asked for the pointer only, and answers 304 until it moves."""
    app = start_function(
        MODEL_BUCKET=bucket.name, AWS_ENDPOINT_URL_S3=proxy.url, RELEASE_REFRESH_SECONDS="0", LOG_LEVEL="ERROR"
    )
    started = len(proxy.answered)
    assert looks(proxy) == [200]
    wait_for(app, lambda: app.service.follower.counters.checks >= 10)
    assert {path.partition("?")[0].rpartition("/")[2] for path, _ in proxy.answered[started:]} == {"live.json"}
    assert set(looks(proxy)[1:]) == {304}
    channels.promote(bucket, "live", published[1].release.ref)
    wait_for(app, lambda: published[1].version in serving(app))
    # The start's, and the look that found something new.
    assert looks(proxy).count(200) == 2


def test_the_pointer_is_looked_at_no_more_often_than_was_set(
    published: list[Published],
    bucket: Bucket,
    proxy: FaultyProxy,
    start_function: StartFunction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within RELEASE_REFRESH_SECONDS no number of requests makes a second look; after it, the next request makes one."""
    app = start_function(
        MODEL_BUCKET=bucket.name, AWS_ENDPOINT_URL_S3=proxy.url, RELEASE_REFRESH_SECONDS="15", LOG_LEVEL="ERROR"
    )
    now = [time.monotonic()]
    monkeypatch.setattr(app.service.follower, "_clock", lambda: now[0])
    for expected in range(1, 4):
        for request in REQUESTS[:50]:
            ask(app, request)
        now[0] += 14.9
        ask(app, REQUESTS[0])
        assert app.service.follower.counters.checks == expected
        now[0] += 0.2
        wait_for(app, lambda: app.service.follower.counters.checks == expected + 1)  # noqa: B023
        wait_for(app, lambda: app.service.follower._next_check < float("inf"))
    assert len(looks(proxy)) == 4
