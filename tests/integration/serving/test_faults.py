"""The fault table of docs/releases.md, row by row, over HTTP: whatever happens to S3, the last good model answers."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.project import ROOT
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import Published, publish

if TYPE_CHECKING:
    from integration.conftest import StartFunction

PREDICT = {"category": "Russian", "start_letters": "RUS"}
PATIENCE_SECONDS = 30.0
# docs/releases.md promises it for each row: Lambda and API Gateway give up after that.
LONGEST_ANSWER_SECONDS = 10.0
# A server that accepts a request and gives no answer to it, or one that would take hours.
ENDLESS = {
    "hangs": Fault(delay=3600),
    "body byte by byte": Fault(drip=0.3),
    "headers byte by byte": Fault(drip_head=0.3),
    "100 Continue": Fault(continues=0.3),
}


def variant(release: Path, folder: Path, limit: int) -> Path:
    """Another release: the same weights, and another cap for start letters."""
    copytree(release, folder)
    config = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(config | {"max_start_letters": limit}))
    return folder


def predict(app: ModuleType) -> tuple[int, Any]:
    """Status, and the release that answered (or the error), in time for every client."""
    began = time.monotonic()
    answer = app.lambda_handler(PREDICT, None)
    assert time.monotonic() - began < LONGEST_ANSWER_SECONDS
    if answer["statusCode"] == 200:
        assert [name[0] for name in json.loads(answer["body"])] == ["R", "U", "S"]
        return 200, answer["headers"]["X-Model-Version"]
    return answer["statusCode"], json.loads(answer["body"])["error"]


def until(app: ModuleType, done: Callable[[], bool], allowed: set[str]) -> None:
    """Send requests until `done`; every one is answered by an allowed release."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        status, version = predict(app)
        assert status == 200, version
        assert version in allowed
        assert time.monotonic() < end, app.service.follower.counters
        time.sleep(0.005)


@pytest.fixture
def good(bucket: Bucket, release: Path) -> Published:
    """The release that is current before the fault."""
    return publish(release, bucket)


@pytest.fixture
def start_through(start_function: "StartFunction", proxy: FaultyProxy, bucket: Bucket) -> Callable[..., ModuleType]:
    """Starts the function with the faulty S3, looking at the pointer at every request."""

    def start(**more: str) -> ModuleType:
        return start_function(
            **{
                "MODEL_BUCKET": bucket.name,
                "AWS_ENDPOINT_URL_S3": proxy.url,
                "RELEASE_REFRESH_SECONDS": "0",
                "RELEASE_RETRY_SECONDS": "0",
                "RELEASE_FETCH_SECONDS": "5",
                "AWS_MAX_ATTEMPTS": "1",
                **more,
            }
        )

    return start


@pytest.fixture
def app(good: Published, start_through: Callable[[], ModuleType]) -> ModuleType:
    """The function, serving the good release."""
    app = start_through()
    assert predict(app) == (200, good.version)
    return app


def survives(app: ModuleType, good: Published, failures: int = 2) -> str:
    """Requests are answered by the good release until several attempts failed; returns the problem that was recorded."""
    before = app.service.follower.counters.failures
    until(app, lambda: app.service.follower.counters.failures >= before + failures, {good.version})
    assert app.service.follower.counters.problem is not None
    return str(app.service.follower.counters.problem)


def heals(app: ModuleType, good: Published, better: Published) -> None:
    """Once the fault is gone, the new release comes into service, and nothing else ever answers."""
    until(app, lambda: predict(app)[1] == better.version, {good.version, better.version})


def test_s3_down_at_the_start(good: Published, start_through: Callable[[], ModuleType], proxy: FaultyProxy) -> None:
    """With S3 down at the start the function starts, says 503 with the reason, and heals by itself."""
    proxy.fault = lambda method, path: Fault(refuse=True)
    app = start_through()
    status, error = predict(app)
    assert (status, error["code"]) == (503, "storage_unavailable")
    proxy.fault = lambda method, path: None
    assert predict(app) == (200, good.version)


@pytest.mark.parametrize("fault", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("channels/live.json", "channels/live.json|the channel 'live'"),
        ("manifest.json", "manifest"),
        ("weights.safetensors", "fetching release"),
    ],
)
def test_s3_never_ends_an_answer_at_the_start(
    part: str, reason: str, fault: Fault, good: Published, start_through: Callable[..., ModuleType], proxy: FaultyProxy
) -> None:
    """An answer that never ends holds up neither the start nor a request: 503 names what was read, and reading goes on."""
    proxy.fault = lambda method, path: fault if part in path else None
    app = start_through(FUNCTION_TIMEOUT="2")
    status, error = predict(app)
    assert (status, error["code"]) == (503, "storage_unavailable")
    assert re.search(reason, error["message"])
    proxy.fault = lambda method, path: None
    end = time.monotonic() + PATIENCE_SECONDS
    while predict(app) != (200, good.version):
        assert time.monotonic() < end, app.service.follower.counters


def test_s3_never_ends_an_answer_with_the_default_timeout(
    good: Published, start_through: Callable[..., ModuleType], proxy: FaultyProxy
) -> None:
    """With the template's own timeout too, the start and the first request end in time, with the reason."""
    proxy.fault = lambda method, path: ENDLESS["headers byte by byte"] if "manifest.json" in path else None
    began = time.monotonic()
    app = start_through()
    status, error = predict(app)
    assert (status, error["code"]) == (503, "storage_unavailable")
    assert time.monotonic() - began < 2 * LONGEST_ANSWER_SECONDS
    proxy.fault = lambda method, path: None
    end = time.monotonic() + PATIENCE_SECONDS
    while predict(app) != (200, good.version):
        assert time.monotonic() < end, app.service.follower.counters


def test_a_first_release_that_takes_long(
    good: Published, start_through: Callable[..., ModuleType], proxy: FaultyProxy
) -> None:
    """A fetch that takes longer than a request may wait is not begun again by the next request."""
    proxy.fault = lambda method, path: Fault(delay=1.2) if "weights" in path else None
    app = start_through(FUNCTION_TIMEOUT="1")
    status, error = predict(app)
    assert (status, error["code"]) == (503, "storage_unavailable")
    while predict(app) != (200, good.version):
        pass
    assert len([path for _, path in proxy.seen if "weights" in path]) == 1


@pytest.mark.parametrize("fault", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("part", ["channels/live.json", "weights.safetensors"])
def test_s3_never_ends_an_answer_later(
    part: str,
    fault: Fault,
    good: Published,
    start_through: Callable[..., ModuleType],
    proxy: FaultyProxy,
    bucket: Bucket,
    release: Path,
    tmp_path: Path,
) -> None:
    """While such an answer is read, the loaded release serves; the look ends by itself, and the next one heals."""
    app = start_through(FUNCTION_TIMEOUT="2", RELEASE_FETCH_SECONDS="1")
    assert predict(app) == (200, good.version)
    proxy.fault = lambda method, path: fault if part in path else None
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    assert "storage_unavailable" in survives(app, good, failures=1)
    proxy.fault = lambda method, path: None
    heals(app, good, better)


def test_s3_down_later(
    app: ModuleType, good: Published, proxy: FaultyProxy, bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """With S3 gone the loaded release serves on; when S3 is back, what was published meanwhile comes into service."""
    proxy.fault = lambda method, path: Fault(refuse=True)
    assert "storage_unavailable" in survives(app, good)
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    proxy.fault = lambda method, path: None
    heals(app, good, better)


def test_s3_answers_with_errors(app: ModuleType, good: Published, proxy: FaultyProxy) -> None:
    """S3's own 503 is a fault like any other."""
    proxy.fault = lambda method, path: Fault(status=503)
    assert "storage_unavailable" in survives(app, good)


def test_slow_s3(
    app: ModuleType, good: Published, proxy: FaultyProxy, bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """While S3 takes its time, no request waits for it."""
    proxy.fault = lambda method, path: Fault(delay=0.3)
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    answered = 0
    while predict(app)[1] == good.version:
        answered += 1
    assert predict(app) == (200, better.version)
    # Four reads of 0.3 s each lie between; had requests waited for them, only a handful would have been answered.
    assert answered > 20


def test_reset_in_mid_download(
    app: ModuleType, good: Published, proxy: FaultyProxy, bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """A connection that breaks is taken up where it broke: the release arrives whole."""
    cuts = iter([Fault(cut=1000), Fault(cut=70_000)])
    proxy.fault = lambda method, path: next(cuts, None) if path.endswith("weights.safetensors") else None
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    heals(app, good, better)
    assert app.service.follower.counters.failures == 0
    assert next(cuts, None) is None


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_bad_hash(
    name: str, app: ModuleType, good: Published, proxy: FaultyProxy, bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """A file that does not arrive as it was published is refused by name; once it does, it is taken."""
    proxy.fault = lambda method, path: Fault(flip=-2) if path.endswith(name) else None
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    assert name in survives(app, good)
    proxy.fault = lambda method, path: None
    heals(app, good, better)


def test_missing_file(app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path) -> None:
    """A file that is not there is told by its key."""
    better = publish(variant(release, tmp_path / "better", 10), bucket, channel=None)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"releases/{better.version}/model.json")
    publish_pointer(bucket, better)
    assert "model.json is missing" in survives(app, good)


def publish_pointer(bucket: Bucket, done: Published) -> None:
    """Move the channel without any of the publisher's checks."""
    from lambda_torch.releases.channels import promote

    promote(bucket, "live", done.release.ref)


def test_bad_golden_example(
    app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that does not answer as recorded never serves, though every hash is right."""
    golden = tmp_path / "golden.json"
    golden.write_text(json.dumps([{"request": PREDICT, "response": ["R", "U", "X"]}]))
    monkeypatch.setattr("lambda_torch.releases.publishing.check_golden", lambda model, manifest: None)
    publish(variant(release, tmp_path / "better", 10), bucket, golden_file=golden)
    assert "golden example 1" in survives(app, good, failures=1)


def test_disk_full(
    app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without room is a fault like any other, and nothing half-written is left behind."""

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        better = publish(variant(release, tmp_path / "better", 10), bucket)
        problem = survives(app, good)
    assert "No space left on device" in problem
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("fetching-")] == []
    heals(app, good, better)


def test_no_room_for_another_release(
    good: Published,
    start_through: Callable[..., ModuleType],
    proxy: FaultyProxy,
    bucket: Bucket,
    release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A release for which neither /tmp nor memory has room is refused before a byte of its files is read."""
    app = start_through(EPHEMERAL_STORAGE="1")
    assert predict(app) == (200, good.version)
    monkeypatch.setattr("serving.releases.room.memory_in_use", lambda: 10**15)
    large = variant(release, tmp_path / "large", 10)
    (large / "more.bin").write_bytes(bytes(1024 * 1024))
    better = publish(large, bucket)
    problem = survives(app, good)
    assert "EphemeralStorage to at least 2" in problem
    assert not [path for _, path in proxy.seen if better.version in path and not path.endswith("manifest.json")]


def test_too_little_memory_for_two_models(
    app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two models do not fit, the swap happens in place: requests wait for it, none fails."""
    monkeypatch.setattr("serving.releases.room.memory_in_use", lambda: 10**15)
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    heals(app, good, better)
    assert app.service.follower.counters.failures == 0


def test_a_failed_swap_in_place_brings_the_old_release_back(
    app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two models do not fit and the new one fails, the old one is built again before any request goes on."""
    monkeypatch.setattr("serving.releases.room.memory_in_use", lambda: 10**15)
    golden = tmp_path / "golden.json"
    golden.write_text(json.dumps([{"request": PREDICT, "response": ["R", "U", "X"]}]))
    monkeypatch.setattr("lambda_torch.releases.publishing.check_golden", lambda model, manifest: None)
    publish(variant(release, tmp_path / "better", 10), bucket, golden_file=golden)
    assert "golden example 1" in survives(app, good, failures=1)
    assert predict(app) == (200, good.version)


@pytest.mark.parametrize("pointer", [b"", b"{}", b"[1]", b"\xff", b'{"schema_version": 9}'])
def test_garbage_pointer(pointer: bytes, app: ModuleType, good: Published, bucket: Bucket) -> None:
    """A pointer that is none is refused by name."""
    bucket.client.put_object(Bucket=bucket.name, Key="channels/live.json", Body=pointer)
    assert "live.json is not of this format" in survives(app, good)


def test_wrong_manifest_hash(
    app: ModuleType, good: Published, bucket: Bucket, start_through: Callable[..., ModuleType], tmp_path: Path
) -> None:
    """The serving release under a hash that its manifest does not have is refused and counted, as in a new environment."""
    pointer = json.loads(bucket.client.get_object(Bucket=bucket.name, Key="channels/live.json")["Body"].read())
    pointer["current"]["manifest_sha256"] = "0" * 64
    bucket.client.put_object(Bucket=bucket.name, Key="channels/live.json", Body=json.dumps(pointer).encode())
    problem = survives(app, good)
    assert "manifest.json has SHA-256" in problem
    status, error = predict(start_through(RELEASE_CACHE=str(tmp_path / "new")))
    assert (status, f"{error['code']}: {error['message']}") == (503, problem)


def test_removed_pointer(app: ModuleType, good: Published, bucket: Bucket) -> None:
    """A channel that is removed stops nothing."""
    bucket.client.delete_object(Bucket=bucket.name, Key="channels/live.json")
    assert "no_release" in survives(app, good)


def test_pointer_race(app: ModuleType, good: Published, bucket: Bucket, release: Path, tmp_path: Path) -> None:
    """While publishers race for the channel, whatever answers is one of their releases, and the winner's serves in the end."""
    rivals = [publish(variant(release, tmp_path / str(limit), limit), bucket, channel=None) for limit in (10, 11, 12)]
    for rival in rivals * 5:
        publish_pointer(bucket, rival)
        predict(app)
    until(
        app,
        lambda: predict(app)[1] == rivals[-1].version,
        {good.version, *(rival.version for rival in rivals)},
    )


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
def test_clock_skew(
    skew: float, app: ModuleType, good: Published, proxy: FaultyProxy, bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """Freshness does not depend on anybody's clock: a pointer that changed is seen by its ETag."""
    proxy.fault = lambda method, path: Fault(skew=skew)
    better = publish(variant(release, tmp_path / "better", 10), bucket)
    heals(app, good, better)


def test_the_fault_table_is_this_file() -> None:
    """docs/releases.md lists a row for each fault that is tested here, and no other."""
    table = re.findall(r"^\| `(test_\w+)` \|", (ROOT / "docs" / "releases.md").read_text(), re.MULTILINE)
    tests = [name for name in globals() if name.startswith("test_") and name != "test_the_fault_table_is_this_file"]
    assert sorted(table) == sorted(tests)
