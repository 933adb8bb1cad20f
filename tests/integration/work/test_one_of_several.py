"""The function as one of several models: its paths, and its part of the bucket."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from integration.work.conftest import CONTEXT, GOOD, Client, document, keys, read
from lambda_torch.bulk import deployed_run, lines
from lambda_torch.errors import BulkError
from lambda_torch.releases import keys as signing_keys
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving import uploads
from serving.settings import Settings, SettingsError

MINE = "models/names/"


@pytest.fixture
def mine(aws_client: Client, bucket: Bucket) -> Bucket:
    """The part of the bucket that belongs to the model `names`."""
    return Bucket(aws_client("s3"), bucket.name, "names")


@pytest.fixture
def one(mine: Bucket, release: Path, start_function: Any, aws: dict[str, str], monkeypatch: Any) -> ModuleType:
    """The function of the model `names`."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    publish(release, mine)
    app: ModuleType = start_function(MODEL_BUCKET=mine.name, MODEL_NAME="names")
    return app


def asked(app: ModuleType, method: str, path: str) -> Any:
    """The answer to a request of a REST API."""
    return app.lambda_handler({"httpMethod": method, "path": path, "resource": path, "body": None}, CONTEXT)


def test_all_that_is_published_is_below_the_models_prefix(one: ModuleType, bucket: Bucket, mine: Bucket) -> None:
    """The bucket has nothing elsewhere, and the part looks like a bucket of its own."""
    whole = keys(bucket, "")
    assert whole
    assert all(key.startswith(MINE) for key in whole)
    assert [each.key for each in mine.objects("")] == [key.removeprefix(MINE) for key in whole]
    assert bucket.versions() == []
    assert bucket.channels() == []
    (version,) = mine.versions()
    assert mine.channels()[0].channel is not None
    assert mine.resolve("current", "live") == version


def test_routes_have_the_name_of_the_model_before_them(one: ModuleType) -> None:
    """With the prefix and without it the same route answers; another model's prefix is none of its routes."""
    for path in ("/models/names/health", "/models/names/health/", "/health"):
        assert asked(one, "GET", path)["statusCode"] == 200, path
    for path in ("/models/names", "/models/names/", "/"):
        assert asked(one, "GET", path)["headers"]["Content-Type"].startswith("text/html"), path
    for path in ("/models/flowers/health", "/models/names-2/health", "/models"):
        assert asked(one, "GET", path)["statusCode"] == 404, path


def test_a_message_is_answered_below_the_prefix(one: ModuleType, bucket: Bucket) -> None:
    """The result of a message of its queue lies in its part of the bucket."""
    record = {
        "eventSource": "aws:sqs",
        "messageId": "m-1",
        "body": '{"category": "Russian", "start_letters": "RUS"}',
        "messageAttributes": {},
    }
    assert one.lambda_handler({"Records": [record]}, CONTEXT) == {"batchItemFailures": []}
    assert document(bucket, f"{MINE}results/m-1.json")["status"] == 200


def test_a_batch_is_answered_below_the_prefix(one: ModuleType, bucket: Bucket) -> None:
    """The lines of a batch lie where the command that collects them looks."""
    placed = deployed_run.Placed(bucket.name, f"{MINE}inbox/a.jsonl", "v1", MINE)
    event = {"lambda-torch": "bulk", "prefix": f"results/{placed.key}/v1", "items": [{"index": 0, "value": GOOD}]}
    assert one.lambda_handler(event, CONTEXT)["answered"] == 1
    (key,) = keys(bucket, placed.results)
    assert key.startswith(f"{MINE}results/{MINE}inbox/a.jsonl/v1/")
    assert '"index":0' in read(bucket, key)


def test_a_file_for_a_run_is_placed_below_the_prefix(bucket: Bucket, tmp_path: Path) -> None:
    """It is uploaded there, copied there from elsewhere, and left where it is if it is there."""
    with pytest.raises(BulkError):
        deployed_run.find(bucket.client, bucket.name, bucket.name, f"{MINE}inbox/none.jsonl", MINE)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    source = tmp_path / "in.jsonl"
    source.write_text("{}\n")
    placed = deployed_run.place(bucket.client, bucket.name, lines.read_input(source), lambda _: None, MINE)
    assert placed.key.startswith(f"{MINE}bulk/")
    assert deployed_run.find(bucket.client, bucket.name, bucket.name, placed.key, MINE) == placed
    bucket.client.put_object(Bucket=bucket.name, Key="inbox/other.jsonl", Body=b"{}\n")
    copied = deployed_run.find(bucket.client, bucket.name, bucket.name, "inbox/other.jsonl", MINE)
    assert copied.key.startswith(f"{MINE}bulk/")


def test_an_upload_is_below_the_prefix(mine: Bucket, bucket: Bucket, aws: dict[str, str], monkeypatch: Any) -> None:
    """The form is for a key of the model, and the function reads it from there."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment({"MODEL_BUCKET": bucket.name, "MODEL_NAME": "names"})
    try:
        room = uploads.offer(settings)
        assert requests.post(room["url"], room["fields"], files={"file": b"content"}, timeout=20).status_code == 204
        assert keys(bucket, "") == [f"{MINE}uploads/{room['upload']}"]
        assert uploads.read(settings, room["upload"], 100).data == b"content"
    finally:
        for cached in (uploads._objects, uploads._client):
            cached.cache_clear()


def test_a_signed_release_is_verified_below_the_prefix(
    mine: Bucket, release: Path, start_function: Any, aws: dict[str, str], monkeypatch: Any, tmp_path: Path
) -> None:
    """The signature is where the release is, and one that is missing refuses the release."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    key = signing_keys.new_key(tmp_path / "key.pem")
    settings = {"MODEL_BUCKET": mine.name, "MODEL_NAME": "names", "RELEASE_SIGNERS": key.signer}
    version = publish(release, mine).version
    refused = start_function(**settings).lambda_handler(GOOD, CONTEXT)
    assert (refused["statusCode"], "no valid signature" in refused["body"]) == (503, True)
    assert publish(release, mine, key=key).version == version
    assert start_function(**settings).lambda_handler(GOOD, CONTEXT)["statusCode"] == 200


@pytest.mark.parametrize("name", ["Names", "a/b", "-a", "a-", "a--b", "1a", "..", "a b"])
def test_a_name_that_is_none_stops_the_start(name: str) -> None:
    """A name that could lead out of the model's part of the bucket is refused."""
    with pytest.raises(SettingsError, match="MODEL_NAME"):
        Settings.from_environment({"MODEL_NAME": name})
