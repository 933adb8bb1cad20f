"""Ranged, parallel fetching: exact, or refused, within its time; over HTTP, through a proxy that fails on demand."""

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.conftest import new_bucket
from integration.serving.proxy import Fault, FaultyProxy
from serving.errors import ReleaseUnavailableError
from serving.releases import download
from serving.releases.format import FileEntry, Manifest, version_of
from serving.releases.store import ReleaseStore
from serving.settings import AwsEnvironment
from serving.storage import objects
from serving.storage.boto import BotoObjects, open_client
from serving.storage.deadline import Deadline
from serving.storage.objects import FetchError, Objects
from serving.storage.signed import SignedObjects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "object"


@pytest.fixture(params=["signed", "boto3"])
def through(
    request: pytest.FixtureRequest, proxy: FaultyProxy, aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Objects:
    """The function's own two ways to read S3, through the proxy."""
    variables = {**aws, "AWS_ENDPOINT_URL_S3": proxy.url}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if request.param == "boto3":
        return BotoObjects(open_client())
    return SignedObjects(AwsEnvironment.from_environment(variables))


@pytest.fixture(scope="module")
def models(client: "S3Client") -> str:
    """A bucket for the objects of this file."""
    return new_bucket(client)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and pieces so small that a few thousand bytes are many of them."""
    monkeypatch.setattr(download, "PART_BYTES", 1000)
    monkeypatch.setattr(objects, "PIECE_BYTES", 64)
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)


def put(client: "S3Client", bucket: str, size: int, key: str = KEY) -> bytes:
    """An object of so many bytes; returns them."""
    content = hashlib.shake_128(str(size).encode()).digest(size)
    client.put_object(Bucket=bucket, Key=key, Body=content)
    return content


def fetch(reader: Objects, bucket: str, size: int, target: Path, seconds: float = 30.0) -> str:
    """Fetch the object into the target."""
    return download.fetch(reader, bucket, KEY, size, target, Deadline(seconds))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 3000) | st.sampled_from([0, 1, 999, 1000, 1001, 2000]),
    part=st.integers(150, 1500),
    piece=st.integers(1, 400),
)
def test_whatever_the_sizes_the_file_is_the_object(
    size: int,
    part: int,
    piece: int,
    client: "S3Client",
    direct: Objects,
    models: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For any size of object, part and piece, every byte is in its place and the hash is the object's."""
    monkeypatch.setattr(download, "PART_BYTES", part)
    monkeypatch.setattr(objects, "PIECE_BYTES", piece)
    content, target = put(client, models, size), tmp_path / "file"
    target.unlink(missing_ok=True)
    assert fetch(direct, models, size, target) == hashlib.sha256(content).hexdigest()
    assert target.read_bytes() == content


def test_parts_of_the_real_size_go_side_by_side(
    through: Objects, client: "S3Client", proxy: FaultyProxy, models: str, tmp_path: Path
) -> None:
    """An object of two and a half parts is three requests for ranges, and arrives whole."""
    size = 2 * download.PART_BYTES + download.PART_BYTES // 2 + 1
    content = put(client, models, size)
    assert fetch(through, models, size, tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").stat().st_size == size
    assert [status for _, status in proxy.answered] == [206, 206, 206]


@pytest.mark.parametrize("wrong", [0, 1, 2499, 2501, 9999])
def test_an_object_of_another_size_is_refused(
    wrong: int, small: None, client: "S3Client", direct: Objects, models: str, tmp_path: Path
) -> None:
    """More bytes or fewer than the manifest says are an error that no later attempt would mend."""
    put(client, models, 2500)
    with pytest.raises(FetchError, match=r"2500 bytes, but the manifest says|fewer bytes than the manifest") as caught:
        fetch(direct, models, wrong, tmp_path / "file")
    assert not caught.value.retryable


def test_resets_are_taken_up_where_they_happened(
    small: None, through: Objects, client: "S3Client", proxy: FaultyProxy, models: str, tmp_path: Path
) -> None:
    """Connections that break in every part cost no byte twice, and the file is whole."""
    content = put(client, models, 5000)
    cuts = [Fault(cut=size) for size in (900, 640, 0, 64, 1)]
    proxy.fault = lambda method, path: cuts.pop() if cuts else None
    assert fetch(through, models, 5000, tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content
    assert not cuts


def test_what_never_gets_further_is_given_up(
    small: None, through: Objects, client: "S3Client", proxy: FaultyProxy, models: str, tmp_path: Path
) -> None:
    """A range that breaks at once, every time, is an error that is worth trying later."""
    put(client, models, 5000)
    proxy.fault = lambda method, path: Fault(cut=0)
    with pytest.raises(FetchError) as caught:
        fetch(through, models, 5000, tmp_path / "file")
    assert caught.value.retryable
    assert len(proxy.seen) <= 5 * download.ATTEMPTS * 2


@pytest.mark.parametrize("fault", [Fault(stall=120.0), Fault(drip=0.5)], ids=["stalled", "dripping"])
def test_the_deadline_holds_however_the_bytes_come(
    fault: Fault, small: None, through: Objects, client: "S3Client", proxy: FaultyProxy, models: str, tmp_path: Path
) -> None:
    """A connection that stands still, and one that gives a byte now and then, end with the deadline and not by themselves."""
    put(client, models, 5000)
    proxy.fault = lambda method, path: fault
    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        fetch(through, models, 5000, tmp_path / "file", seconds=1.0)
    assert caught.value.retryable
    # By themselves the stalled one would end after 120 s, the dripping one after 500 s.
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "fault",
    [Fault(stall=120.0), Fault(drip=0.2), Fault(delay=120.0), Fault(drip_head=0.2), Fault(continues=0.2)],
    ids=["stalled", "dripping", "silent", "dripping headers", "100 Continue"],
)
def test_the_deadline_of_a_document_counts_for_all_its_reads(
    fault: Fault, through: Objects, client: "S3Client", proxy: FaultyProxy, models: str
) -> None:
    """A small object that comes slowly, headers included, ends with the deadline, with an error that is worth trying later."""
    put(client, models, 4000)
    proxy.fault = lambda method, path: fault
    with pytest.raises(FetchError, match=KEY) as caught:
        objects.read_small(through, models, KEY, 10_000, deadline=Deadline(0.7))
    assert caught.value.retryable


def test_after_the_deadline_nothing_is_asked_for(
    small: None, through: Objects, client: "S3Client", proxy: FaultyProxy, models: str, tmp_path: Path
) -> None:
    """Without time left, S3 is not bothered."""
    put(client, models, 5000)
    with pytest.raises(FetchError, match="not enough time"):
        fetch(through, models, 5000, tmp_path / "file", seconds=0.0)
    assert proxy.seen == []


def test_a_range_that_was_not_asked_for_is_refused(
    small: None, client: "S3Client", direct: Objects, models: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers a range with the whole object writes nothing past its place."""
    put(client, models, 2500)
    honest = direct.get
    monkeypatch.setattr(direct, "get", lambda bucket, key, byte_range, deadline: honest(bucket, key))
    with pytest.raises(FetchError, match="S3 sent other bytes than"):
        fetch(direct, models, 2500, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 2500


def test_an_existing_file_is_never_written_over(
    client: "S3Client", direct: Objects, models: str, tmp_path: Path
) -> None:
    """The target must be new: somebody may map what is there."""
    put(client, models, 10)
    (tmp_path / "file").write_bytes(b"mapped")
    with pytest.raises(FileExistsError):
        fetch(direct, models, 10, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mapped"


def manifest_of(content: bytes, sha256: str | None = None) -> Manifest:
    """A manifest of this one file."""
    files = {"data": FileEntry(size=len(content), sha256=sha256 or hashlib.sha256(content).hexdigest())}
    return Manifest.model_validate(
        {
            "schema_version": 1,
            "version": version_of(files),
            "created": "2026-01-01T00:00:00Z",
            "files": {name: entry.model_dump() for name, entry in files.items()},
        }
    )


@pytest.fixture
def store(direct: Objects, models: str, tmp_path: Path) -> ReleaseStore:
    """The read side of the bucket."""
    return ReleaseStore(direct, models, tmp_path / "cache", 30)


def test_a_wrong_hash_is_refused_and_leaves_nothing(
    store: ReleaseStore, client: "S3Client", models: str, tmp_path: Path
) -> None:
    """Bytes that are not the manifest's never appear under the release's name."""
    manifest = manifest_of(b"x" * 3000, "0" * 64)
    put(client, models, 3000, f"releases/{manifest.version}/data")
    with pytest.raises(ReleaseUnavailableError, match="but the manifest says 0000"):
        store.fetch(manifest)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_while_one_process_builds_another_removes_nothing(
    store: ReleaseStore, client: "S3Client", direct: Objects, models: str, tmp_path: Path
) -> None:
    """What a process is about to map stays until it has; afterwards the cache is cleaned up as usual."""
    content = put(client, models, 100)
    manifest = manifest_of(content)
    client.put_object(Bucket=models, Key=f"releases/{manifest.version}/data", Body=content)
    other = ReleaseStore(direct, models, tmp_path / "cache", 30)
    # The lock belongs to an open file, so two stores exclude each other in one process as they do in two.
    with other.cache.reading():
        folder = store.fetch(manifest).folder
        store.cache.keep_only(set())
        assert folder.is_dir()
    store.cache.keep_only(set())
    assert not folder.exists()


def test_what_an_interrupted_fetch_left_goes_after_an_hour(store: ReleaseStore, tmp_path: Path) -> None:
    """A staging folder may be somebody's work; one that is hours old is rubbish."""
    young, old = tmp_path / "cache" / "fetching-a", tmp_path / "cache" / "fetching-b"
    young.mkdir(parents=True)
    old.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    store.cache.keep_only(set())
    assert (young.exists(), old.exists()) == (True, False)
