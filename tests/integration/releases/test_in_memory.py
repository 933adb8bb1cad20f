"""Releases that go from S3 straight into memory: as right as those on the disk, unchangeable, and gone when they are done."""

import gc
import hashlib
import json
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.conftest import StartFunction
from integration.releases.test_in_function import REQUESTS, ask, serving, wait_for
from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import Published, publish
from serving.errors import ReleaseUnavailableError
from serving.releases import golden, memory, room
from serving.releases.format import FileEntry, Manifest, version_of
from serving.releases.room import MEGABYTE, Room, memory_in_use
from serving.releases.store import FetchedRelease, ReleaseStore
from serving.storage.objects import Objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONTENT = {"weights.bin": b"w" * 3 * MEGABYTE, "folder/more.bin": b"m" * MEGABYTE, "small.json": b"{}"}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a release is, it goes into memory with all its files."""
    monkeypatch.setattr(room, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(memory, "SMALLEST_BYTES", 0)


def files_in_memory() -> tuple[int, int]:
    """How many files in memory this process has open, and how many are mapped."""
    gc.collect()
    return len(room._open_files()), len(room._mapped_files())


@pytest.fixture
def manifest(client: "S3Client", bucket: Bucket) -> Manifest:
    """A release of two large files and a small one, in the bucket."""
    files = {
        name: FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in CONTENT.items()
    }
    version = version_of(files)
    for name, content in CONTENT.items():
        client.put_object(Bucket=bucket.name, Key=f"releases/{version}/{name}", Body=content)
    values = {"schema_version": 1, "version": version, "created": "2026-01-01T00:00:00Z"}
    return Manifest.model_validate({**values, "files": {name: each.model_dump() for name, each in files.items()}})


@pytest.fixture
def store(direct: Objects, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReleaseStore:
    """The read side of the bucket, with memory for every release, and 1 MB of disk."""
    monkeypatch.setattr(room, "IN_MEMORY_BYTES", 2 * MEGABYTE)
    return ReleaseStore(direct, bucket.name, tmp_path / "cache", 30, room=Room(10**15, MEGABYTE))


def read(fetched: FetchedRelease) -> dict[str, bytes]:
    """Every file of a release, as a model reads it."""
    return {name: (fetched.folder / name).read_bytes() for name in CONTENT}


def test_a_release_that_is_larger_than_the_disk_is_fetched_whole(store: ReleaseStore, manifest: Manifest) -> None:
    """Every file has its bytes under its name; the large ones are in memory, the small one is on the disk."""
    fetched = store.fetch(manifest)
    assert read(fetched) == CONTENT
    assert {name for name in CONTENT if (fetched.folder / name).is_symlink()} == {"weights.bin", "folder/more.bin"}
    assert files_in_memory()[0] == 2
    assert fetched.files is not None
    fetched.files.close()
    assert not fetched.folder.exists()
    assert files_in_memory() == (0, 0)


def test_what_was_verified_cannot_be_changed(store: ReleaseStore, manifest: Manifest) -> None:
    """Whoever opens a file in memory can neither write to it, nor cut it, nor make it longer, nor lift the seal."""
    fetched = store.fetch(manifest)
    descriptor = os.open(fetched.folder / "weights.bin", os.O_RDWR)
    try:
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 1),
            lambda: os.ftruncate(descriptor, 10 * MEGABYTE),
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(descriptor)
    assert read(fetched) == CONTENT


def test_a_release_in_memory_ends_with_its_last_user(store: ReleaseStore, manifest: Manifest) -> None:
    """Also without `close`, nothing is left when nobody holds the release any more."""
    fetched = store.fetch(manifest)
    folder = fetched.folder
    del fetched
    assert files_in_memory() == (0, 0)
    assert not folder.exists()


def test_a_wrong_hash_leaves_nothing_in_memory(
    store: ReleaseStore, manifest: Manifest, client: "S3Client", bucket: Bucket, tmp_path: Path
) -> None:
    """A file that does not arrive as it was published is refused by name, and the memory is free again."""
    key = f"releases/{manifest.version}/folder/more.bin"
    client.put_object(Bucket=bucket.name, Key=key, Body=b"x" * MEGABYTE)
    with pytest.raises(ReleaseUnavailableError, match=r"more.bin has SHA-256"):
        store.fetch(manifest)
    assert files_in_memory() == (0, 0)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_memory_counts_each_file_once(store: ReleaseStore, manifest: Manifest) -> None:
    """What nobody has read yet counts as memory, and what is open and mapped does not count twice."""
    before = memory_in_use()
    fetched = store.fetch(manifest)
    assert 3 * MEGABYTE < memory_in_use() - before < 8 * MEGABYTE
    import torch

    mapped = torch.from_file(str(fetched.folder / "weights.bin"), size=3 * MEGABYTE, dtype=torch.uint8)
    assert int(mapped.to(torch.int64).sum()) == 3 * MEGABYTE * ord("w")
    assert files_in_memory() == (2, 1)
    assert sum({**room._open_files(), **room._mapped_files()}.values()) == 4 * MEGABYTE


@given(st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(0, 10 * MEGABYTE), max_size=400))
def test_the_largest_files_are_in_memory(sizes: dict[str, int]) -> None:
    """As many as a process may have open, and none that a small disk takes."""
    files = {name: FileEntry(size=size, sha256="0" * 64) for name, size in sizes.items()}
    found = memory.names_in_memory(files)
    assert len(found) <= memory.MOST_FILES
    assert all(sizes[name] >= MEGABYTE for name in found)
    left = [size for name, size in sizes.items() if name not in found and size >= MEGABYTE]
    assert not left or len(found) == memory.MOST_FILES
    assert max(left, default=0) <= min((sizes[name] for name in found), default=10 * MEGABYTE)


@pytest.fixture
def published(bucket: Bucket, folders: list[Path]) -> list[Published]:
    """Three releases in the bucket; the first is current."""
    first = publish(folders[0], bucket)
    return [first, *(publish(folder, bucket, channel=None) for folder in folders[1:3])]


Starting = Callable[..., ModuleType]


@pytest.fixture
def starting(published: list[Published], bucket: Bucket, start_function: StartFunction, proxy: FaultyProxy) -> Starting:
    """Starts the function behind the proxy, looking at the channel at every opportunity."""

    def start(**more: str) -> ModuleType:
        return start_function(
            MODEL_BUCKET=bucket.name,
            AWS_ENDPOINT_URL_S3=proxy.url,
            RELEASE_REFRESH_SECONDS="0",
            LOG_LEVEL="ERROR",
            **more,
        )

    return start


def in_cache(tmp_path: Path) -> list[str]:
    """The folders of releases on the disk."""
    folders = (path.name for path in (tmp_path / "cache").iterdir() if path.is_dir())
    return sorted(name for name in folders if name != "loading")


def test_it_answers_as_from_the_disk(
    starting: Starting, tmp_path: Path, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same release answers the same, nothing of it is on the disk, and no descriptor of it stays open."""
    app = starting()
    from_memory = [ask(app, request) for request in REQUESTS[:20]]
    assert in_cache(tmp_path) == []
    assert files_in_memory()[0] == 0
    monkeypatch.undo()
    app = starting(RELEASE_CACHE=str(tmp_path / "other"))
    assert [ask(app, request) for request in REQUESTS[:20]] == from_memory


def test_swaps_give_the_memory_back(
    starting: Starting, bucket: Bucket, published: list[Published], always: None
) -> None:
    """After many swaps no more files are mapped than the release in service has, and no request failed."""
    app = starting()
    for number in range(1, 10):
        following = published[number % 3]
        channels.promote(bucket, "live", following.release.ref)
        wait_for(app, lambda: following.version in serving(app))  # noqa: B023
    open_files, mapped = files_in_memory()
    assert open_files == 0
    assert mapped <= 2
    assert app.service.follower.counters.failures == 0


def test_a_broken_connection_is_taken_up_in_memory(
    starting: Starting, bucket: Bucket, published: list[Published], proxy: FaultyProxy, always: None
) -> None:
    """A reset in the middle of a file costs nothing but the bytes that were lost."""
    app = starting()
    cuts = iter([Fault(cut=1000), Fault(cut=2000)])
    proxy.fault = lambda method, path: next(cuts, None) if path.endswith("weights.safetensors") else None
    channels.promote(bucket, "live", published[1].release.ref)
    wait_for(app, lambda: published[1].version in serving(app))
    assert app.service.follower.counters.failures == 0
    assert next(cuts, None) is None


def refused_by_example(bucket: Bucket, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A release that does not answer as recorded, in the bucket and in no channel."""
    path = tmp_path / "golden.json"
    path.write_text(json.dumps([{"request": REQUESTS[0], "response": ["X", "X"]}]))
    monkeypatch.setattr("lambda_torch.releases.publishing.check_golden", lambda model, manifest: None)
    return publish(folder, bucket, channel=None, golden_file=path)


def test_a_release_that_is_refused_leaves_nothing_in_memory(
    starting: Starting,
    bucket: Bucket,
    published: list[Published],
    folders: list[Path],
    tmp_path: Path,
    always: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that fails its examples is gone once that is known, though its error is kept for /health."""
    bad = refused_by_example(bucket, folders[3], tmp_path, monkeypatch)
    app = starting()
    models: list[weakref.ref[object]] = []
    check = golden.check

    def watched(model: object, *rest: object) -> None:
        models.append(weakref.ref(model))
        check(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(golden, "check", watched)
    channels.promote(bucket, "live", bad.release.ref)
    wait_for(app, lambda: app.service.follower.counters.failures >= 1)
    assert "golden example 1" in app.service.follower.counters.problem
    gc.collect()
    assert models
    assert [model() for model in models] == [None] * len(models)
    assert files_in_memory()[0] == 0


def test_a_failed_swap_in_place_frees_the_new_model_first(
    starting: Starting,
    bucket: Bucket,
    published: list[Published],
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where memory holds one model, the one that failed is gone before the old one is built again."""
    bad = refused_by_example(bucket, folders[3], tmp_path, monkeypatch)
    app = starting()
    monkeypatch.setattr(room, "memory_in_use", lambda: 10**15)
    model_class = app.model.Model
    built: list[weakref.ref[object]] = []
    alive: list[int] = []
    load = model_class.load

    def watched(folder: Path) -> object:
        gc.collect()
        alive.append(sum(each() is not None for each in built))
        made = load(folder)
        built.append(weakref.ref(made))
        return made

    monkeypatch.setattr(model_class, "load", watched)
    channels.promote(bucket, "live", bad.release.ref)
    wait_for(app, lambda: app.service.follower.counters.failures >= 1)
    assert len(built) >= 2  # the bad one, and the old one again
    assert alive[:2] == [0, 0]
    assert ask(app, REQUESTS[0])[0] == published[0].version


def asked_for(proxy: FaultyProxy, version: str) -> list[str]:
    """The files of a release, other than its manifest, that S3 was asked for."""
    return [path for _, path in proxy.seen if version in path and not path.partition("?")[0].endswith("manifest.json")]


def test_a_swap_in_place_without_a_way_back_does_not_begin(
    starting: Starting,
    bucket: Bucket,
    published: list[Published],
    folders: list[Path],
    tmp_path: Path,
    always: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old release is in memory alone, and the disk holds one: it serves on, and the message says what to raise."""
    large = copytree(folders[1], tmp_path / "large")
    (large / "more.bin").write_bytes(bytes(600_000))
    larger = copytree(folders[0], tmp_path / "larger")
    (larger / "more.bin").write_bytes(bytes(600_000))
    old = publish(larger, bucket)
    app = starting(EPHEMERAL_STORAGE="1")
    assert ask(app, REQUESTS[0])[0] == old.version
    monkeypatch.setattr(room, "memory_in_use", lambda: 10**15)
    publish(large, bucket)
    wait_for(app, lambda: app.service.follower.counters.failures >= 1)
    problem = app.service.follower.counters.problem
    assert "did not begin, since there is no way back" in problem
    assert "EphemeralStorage to at least 2" in problem
    assert {ask(app, request)[0] for request in REQUESTS[:20]} == {old.version}


def test_a_canary_that_does_not_fit_is_refused_before_it_is_fetched(
    starting: Starting,
    bucket: Bucket,
    published: list[Published],
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one file of it is asked for, and the current release answers everything."""
    app = starting()
    monkeypatch.setattr(room, "memory_in_use", lambda: 10**15)
    channels.set_canary(bucket, "live", published[1].release.ref, 0.9)
    wait_for(app, lambda: app.service.follower.counters.failures >= 1)
    assert "The canary cannot serve. Release" in app.service.follower.counters.problem
    assert "does not fit into memory" in app.service.follower.counters.problem
    assert asked_for(proxy, published[1].version) == []
    assert {ask(app, request)[0] for request in REQUESTS[:50]} == {published[0].version}
