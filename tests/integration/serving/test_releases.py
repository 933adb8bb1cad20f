import json
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

import pytest

from lambda_torch.errors import BucketError
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving.errors import ReleaseUnavailableError
from serving.releases.format import Manifest
from serving.releases.store import ReleaseStore
from serving.storage.objects import Objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from integration.conftest import StartFunction

PREDICT = {"category": "Russian", "start_letters": "RUS"}


@pytest.fixture
def version(client: "S3Client", bucket: Bucket, release: Path) -> str:
    """The version of the release that the bucket's pointer names."""
    return publish(release, bucket).version


@pytest.fixture
def store(direct: Objects, bucket: Bucket, tmp_path: Path) -> ReleaseStore:
    """The read side of the bucket, with a cache of its own."""
    return ReleaseStore(direct, bucket.name, tmp_path / "cache", 60)


def current_manifest(store: ReleaseStore) -> Manifest:
    """The manifest of the release that the channel names."""
    state = store.channel("live")
    assert state is not None
    return store.manifest(state.channel.current)


class Unchecked:
    """Stands for a model where a test gets a broken release past the publisher's own checks."""


def overwrite(client: "S3Client", bucket: Bucket, key: str, change: bytes | None, position: int = -1) -> None:
    """Replace one byte of an object (None cuts it there), as a damaged disk or a wrong upload would."""
    content = bytearray(client.get_object(Bucket=bucket.name, Key=key)["Body"].read())
    content[position:] = (change + content[position:][1:]) if change is not None else b""
    client.put_object(Bucket=bucket.name, Key=key, Body=bytes(content))


def test_a_published_release_is_fetched_whole(store: ReleaseStore, version: str, release: Path) -> None:
    """What the function gets is what the folder held, byte for byte."""
    manifest = current_manifest(store)
    folder = store.fetch(manifest).folder
    assert manifest.version == version
    assert {name: (folder / name).read_bytes() for name in manifest.files} == {
        path.name: path.read_bytes() for path in release.iterdir()
    }


def test_publishing_again_sends_nothing(client: "S3Client", bucket: Bucket, version: str, release: Path) -> None:
    """The same content is the same release: its files are in the bucket already."""
    again = publish(release, bucket)
    assert (again.version, again.previous, again.sent) == (version, version, ())


def test_a_cached_release_is_verified_before_it_is_used_again(
    store: ReleaseStore, version: str, tmp_path: Path
) -> None:
    """A cached file that was changed on the disk is fetched anew, not trusted."""
    manifest = current_manifest(store)
    folder = store.fetch(manifest).folder
    name = min(manifest.files)
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(b"x" * len(good))
    assert (store.fetch(manifest).folder / name).read_bytes() == good


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
@pytest.mark.parametrize("change", [b"\x00", None], ids=["flipped", "truncated"])
def test_a_damaged_release_is_refused_with_the_reason(
    name: str, change: bytes | None, client: "S3Client", bucket: Bucket, version: str, start_function: "StartFunction"
) -> None:
    """One wrong byte in S3, or a missing end, gives 503 that names the object and what is wrong; nothing damaged is served."""
    key = f"releases/{version}/{name}"
    overwrite(client, bucket, key, change)
    answer = start_function(MODEL_BUCKET=bucket.name).lambda_handler(PREDICT, None)
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["code"]) == (503, "release_refused")
    assert key in error["message"]


def test_a_missing_file_is_refused_by_name(
    client: "S3Client", bucket: Bucket, version: str, store: ReleaseStore
) -> None:
    """A file that the manifest lists and S3 has not is told by its key."""
    client.delete_object(Bucket=bucket.name, Key=f"releases/{version}/model.json")
    with pytest.raises(ReleaseUnavailableError, match=r"model\.json is missing"):
        store.fetch(current_manifest(store))


@pytest.mark.parametrize("pointer", [b"", b"{}", b'{"schema_version": 1, "version": "../x"}', b"\xff", b"[1]"])
def test_a_garbage_pointer_is_refused(pointer: bytes, client: "S3Client", bucket: Bucket, store: ReleaseStore) -> None:
    """A pointer that is not one is refused by name, whatever it holds."""
    client.put_object(Bucket=bucket.name, Key="channels/live.json", Body=pointer)
    with pytest.raises(ReleaseUnavailableError, match=r"live\.json is not of this format") as caught:
        store.channel("live")
    assert caught.value.code == "release_refused"


def test_weights_that_disagree_with_model_json_are_not_published(
    client: "S3Client", bucket: Bucket, release: Path, tmp_path: Path
) -> None:
    """A folder that the function could not load never becomes the current release."""
    folder = copytree(release, tmp_path / "broken")
    config = json.loads((folder / "model.json").read_text())
    config["categories"].pop()
    (folder / "model.json").write_text(json.dumps(config))
    with pytest.raises(BucketError, match="shape"):
        publish(folder, bucket)
    assert client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 0


def test_a_disagreeing_release_that_got_into_the_bucket_is_refused(
    client: "S3Client",
    bucket: Bucket,
    release: Path,
    tmp_path: Path,
    start_function: "StartFunction",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes may all be right and the content still wrong: the function says so and serves nothing."""
    folder = copytree(release, tmp_path / "broken")
    config = json.loads((folder / "model.json").read_text())
    config["categories"].pop()
    (folder / "model.json").write_text(json.dumps(config))
    monkeypatch.setattr("lambda_torch.releases.publishing.load", lambda folder: Unchecked())
    publish(folder, bucket)
    answer = start_function(MODEL_BUCKET=bucket.name).lambda_handler(PREDICT, None)
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["code"]) == (503, "release_refused")
    assert "does not load" in error["message"]


def test_a_restart_serves_the_replaced_release(
    client: "S3Client", bucket: Bucket, version: str, release: Path, tmp_path: Path, start_function: "StartFunction"
) -> None:
    """A new environment serves what the pointer names now."""
    assert (
        start_function(MODEL_BUCKET=bucket.name).lambda_handler(PREDICT, None)["headers"]["X-Model-Version"] == version
    )
    folder = copytree(release, tmp_path / "next")
    config = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(config | {"max_start_letters": 3}))
    done = publish(folder, bucket)
    assert done.previous == version
    assert done.sent == ("model.json", "weights.safetensors")
    app = start_function(MODEL_BUCKET=bucket.name)
    assert app.lambda_handler(PREDICT, None)["headers"]["X-Model-Version"] == done.version
    assert app.lambda_handler(PREDICT | {"start_letters": "RUSS"}, None)["statusCode"] == 400


def test_an_absent_bucket_is_told_with_the_next_step(client: "S3Client", release: Path) -> None:
    """Publishing into a bucket that is not there says so and where its name is found."""
    with pytest.raises(BucketError, match=r"NoSuchBucket(.|\n)*Next: "):
        publish(release, Bucket(client, "no-such-bucket"))


def test_storage_that_does_not_answer_is_503_and_not_a_crash(
    start_function: "StartFunction",
) -> None:
    """With S3 down at the start the function starts, and says what it could not reach."""
    answer = start_function(MODEL_BUCKET="models", AWS_ENDPOINT_URL_S3="http://127.0.0.1:9").lambda_handler(
        PREDICT, None
    )
    assert answer["statusCode"] == 503
    assert json.loads(answer["body"])["error"]["code"] == "storage_unavailable"
