"""`lambda-torch layer publish` against Lambda, S3 and STS over HTTP.

moto accepts any permission of a layer version and keeps no field OrganizationId. Where it matters, the test looks at the request
that arrives.
"""

import base64
import hashlib
import http.server
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.aws_command import Clients, Run
from integration.layers.sample_layers import write_layer
from lambda_torch import project
from lambda_torch.layers import versions
from lambda_torch.layers.built import LICENSE_INFO_LIMIT, license_expression, opened_layer

NAME = "lambda-torch-python313-x86_64"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A small layer."""
    return write_layer(tmp_path / "layer.zip")


def published(client: Clients, name: str = NAME, region: str = "us-east-1") -> list[dict[str, Any]]:
    """The versions of a layer in a region, oldest first."""
    found: list[dict[str, Any]] = client("lambda", region).list_layer_versions(LayerName=name)["LayerVersions"]
    return sorted(found, key=lambda version: int(version["Version"]))


def test_a_version_carries_what_the_layer_says_of_itself(run: Run, client: Clients, layer: Path) -> None:
    """Runtime, architecture, licences and the hash of the content are read from the zip file, and the bytes are the file's."""
    done = run("layer", "publish", layer)
    assert done.status == 0, done.errors
    (version,) = published(client)
    assert done.output == version["LayerVersionArn"] + "\n"
    assert version["LayerVersionArn"].endswith(f":layer:{NAME}:1")
    assert version["CompatibleRuntimes"] == ["python3.13"]
    assert version["CompatibleArchitectures"] == ["x86_64"]
    assert version["LicenseInfo"] == "Apache-2.0 AND BSD AND BSD-3-Clause AND MIT"
    with opened_layer(layer) as built:
        assert version["Description"] == f"torch 2.13.0+cpu for python3.13; tree_sha256={built.tree_sha256}"
    stored = client("lambda").get_layer_version(LayerName=NAME, VersionNumber=1)["Content"]["CodeSha256"]
    assert base64.b64decode(stored) == hashlib.sha256(layer.read_bytes()).digest()


def test_the_same_content_is_published_once(run: Run, client: Clients, layer: Path, tmp_path: Path) -> None:
    """A second call names the version that exists, also for another zip file of the same content; new content is a new one."""
    first = run("layer", "publish", layer)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(layer) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        for item in reversed(old.infolist()):
            item.date_time = (2026, 1, 2, 3, 4, 6)
            new.writestr(item, old.read(item.filename))
    assert other.read_bytes() != layer.read_bytes()
    second = run("layer", "publish", other)
    assert second.output == first.output
    assert "has this content already" in second.errors
    assert len(published(client)) == 1
    third = run("layer", "publish", write_layer(tmp_path / "third.zip", content=b"newer"))
    assert third.output != first.output
    assert len(published(client)) == 2


def test_a_folder_and_its_zip_file_are_one_content(run: Run, client: Clients, layer: Path, tmp_path: Path) -> None:
    """The hash is that of the builder's report, and of the folder as well as of the zip file."""
    folder = tmp_path / "folder"
    with zipfile.ZipFile(layer) as archive:
        for item in archive.infolist():
            path = Path(archive.extract(item, folder))
            path.chmod(item.external_attr >> 16 & 0o777)
    project.use_builder()
    from builder.account.ledger import tree_sha256

    facts = run("layer", "publish", folder, "--json").json
    assert facts["tree_sha256"] == tree_sha256(folder)
    assert run("layer", "publish", layer, "--json").json["versions"][0]["existed"] is True
    assert len(published(client)) == 1


def test_a_large_layer_goes_through_a_private_bucket(run: Run, client: Clients, tmp_path: Path) -> None:
    """Above 50 MB the file is uploaded to a bucket of the region, which is made: private, and emptied after days."""
    big = write_layer(tmp_path / "big.zip", content=bytes(51_000_000))
    done = run("layer", "publish", big, "--region", "eu-west-1", "--json")
    assert done.status == 0, done.errors
    (version,) = done.json["versions"]
    bucket = "lambda-torch-layers-123456789012-eu-west-1"
    assert version["bucket"] == bucket
    assert version["arn"].startswith("arn:aws:lambda:eu-west-1:123456789012:layer:")
    s3 = client("s3", "eu-west-1")
    (stored,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert stored["Key"] == f"lambda-torch/layers/{hashlib.sha256(big.read_bytes()).hexdigest()}.zip"
    assert stored["Size"] == big.stat().st_size
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["Expiration"]["Days"] == versions.KEPT_DAYS
    (there,) = published(client, region="eu-west-1")
    assert there["LayerVersionArn"] == version["arn"]


def test_a_bucket_of_ones_own_is_used_and_not_changed(
    run: Run, client: Clients, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--bucket names the bucket; one that exists keeps its settings, and a file that it has is not sent again."""
    monkeypatch.setattr(versions, "DIRECT_BYTES", 10)
    s3 = client("s3")
    s3.create_bucket(Bucket="mine")
    assert run("layer", "publish", layer, "--bucket", "mine").status == 0
    (before,) = s3.list_objects_v2(Bucket="mine")["Contents"]
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket="mine")
    assert run("layer", "publish", layer, "--bucket", "mine", "--name", "second").status == 0
    (after,) = s3.list_objects_v2(Bucket="mine")["Contents"]
    assert after["LastModified"] == before["LastModified"]


def test_each_region_has_its_own_bucket_and_version(
    run: Run, client: Clients, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several regions each gets the version once, from a bucket in that region."""
    monkeypatch.setattr(versions, "DIRECT_BYTES", 10)
    regions = ("us-east-1", "eu-west-1")
    words = [word for region in (*regions, "us-east-1") for word in ("--region", region)]
    done = run("layer", "publish", layer, "--bucket", "layers-{region}", *words)
    assert done.status == 0, done.errors
    assert len(done.output.splitlines()) == 2
    for region in regions:
        assert len(published(client, region=region)) == 1
        assert client("s3", region).list_objects_v2(Bucket=f"layers-{region}")["KeyCount"] == 1
    places = client("s3").get_bucket_location(Bucket="layers-eu-west-1")
    assert places["LocationConstraint"] == "eu-west-1"


def test_grants_are_in_the_versions_policy(run: Run, client: Clients, layer: Path) -> None:
    """--account and --public are statements of the version's policy, and a second call adds none twice."""
    words = ("--account", "111122223333", "--account", "444455556666", "--public")
    assert run("layer", "publish", layer, *words).status == 0
    again = run("layer", "publish", layer, *words, "--account", "777788889999")
    assert again.status == 0, again.errors
    policy = json.loads(client("lambda").get_layer_version_policy(LayerName=NAME, VersionNumber=1)["Policy"])
    statements = {each["Sid"]: (each["Action"], each["Principal"]) for each in policy["Statement"]}
    assert set(statements) == {"public", "account-111122223333", "account-444455556666", "account-777788889999"}
    assert {action for action, _ in statements.values()} == {"lambda:GetLayerVersion"}
    assert statements["public"][1] == "*"
    assert "111122223333" in str(statements["account-111122223333"][1])


def test_a_dry_run_changes_nothing(run: Run, client: Clients, layer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--dry-run says what would happen, and makes neither a bucket nor a version."""
    monkeypatch.setattr(versions, "DIRECT_BYTES", 10)
    done = run("layer", "publish", layer, "--dry-run", "--public", "--json")
    assert done.status == 0
    (version,) = done.json["versions"]
    assert (version["arn"], version["version"], version["existed"]) == (None, None, False)
    assert "would get a new version" in done.errors
    assert "would be open to everyone" in done.errors
    assert published(client) == []
    assert client("s3").list_buckets()["Buckets"] == []


class _Recorder(http.server.BaseHTTPRequestHandler):
    """Answers Lambda's calls for a layer as AWS documents them, and keeps what was asked."""

    asked: list[tuple[str, str, dict[str, Any]]]
    code_sha256 = ""
    refuses = ""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, json.loads(body) if body else {}))
        status = 200
        answer: dict[str, Any] = {}
        if self.refuses and self.command == "POST":
            status, answer = 403, {"Message": "no", "Type": "User"}
            self.send_response(status)
            self.send_header("x-amzn-ErrorType", self.refuses)
        elif self.command == "POST" and self.path.endswith("/versions"):
            status = 201
            arn = "arn:aws:lambda:us-east-1:123456789012:layer:x:7"
            answer = {"Version": 7, "LayerVersionArn": arn, "Content": {"CodeSha256": self.code_sha256}}
            self.send_response(status)
        elif self.command == "DELETE":
            self.send_response(204)
        else:
            self.send_response(status)
            answer = {"LayerVersions": []} if self.command == "GET" else {"Statement": "{}", "RevisionId": "1"}
        content = json.dumps(answer).encode() if self.command != "DELETE" else b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """The test looks at `asked`."""


@pytest.fixture
def recorder() -> Iterator[tuple[str, type[_Recorder]]]:
    """The address of a Lambda API that keeps what it is asked, and its handler's class."""
    handler = type("Recorder", (_Recorder,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_an_organization_is_granted_by_its_id(run: Run, layer: Path, recorder: tuple[str, type[_Recorder]]) -> None:
    """AWS's request for an organization: every principal, limited by OrganizationId."""
    url, handler = recorder
    handler.code_sha256 = base64.b64encode(hashlib.sha256(layer.read_bytes()).digest()).decode()
    done = run("layer", "publish", layer, "--organization", "o-a1b2c3d4e5", AWS_ENDPOINT_URL=url)
    assert done.status == 0, done.errors
    method, path, body = handler.asked[-1]
    assert (method, path) == ("POST", f"/2018-10-31/layers/{NAME}/versions/7/policy")
    assert body == {
        "StatementId": "organization-o-a1b2c3d4e5",
        "Action": "lambda:GetLayerVersion",
        "Principal": "*",
        "OrganizationId": "o-a1b2c3d4e5",
    }


def test_a_version_with_other_bytes_is_removed(run: Run, layer: Path, recorder: tuple[str, type[_Recorder]]) -> None:
    """If Lambda reports another hash than that of the file, no such version stays, and nobody is granted it."""
    url, handler = recorder
    handler.code_sha256 = base64.b64encode(bytes(32)).decode()
    done = run("layer", "publish", layer, "--public", AWS_ENDPOINT_URL=url)
    assert done.status == 1
    assert "was removed again" in done.errors
    assert handler.asked[-1][:2] == ("DELETE", f"/2018-10-31/layers/{NAME}/versions/7")
    assert not any(path.endswith("/policy") for _, path, _ in handler.asked)


def test_a_refusal_names_the_permissions(run: Run, layer: Path, recorder: tuple[str, type[_Recorder]]) -> None:
    """AWS's refusal becomes one message with the permissions that are needed."""
    url, handler = recorder
    handler.refuses = "AccessDeniedException"
    done = run("layer", "publish", layer, "--json", AWS_ENDPOINT_URL=url)
    assert done.status == 1
    assert "lambda:ListLayerVersions, PublishLayerVersion" in done.errors
    assert list(done.json["failed"]) == ["us-east-1"]


def test_one_regions_failure_keeps_no_other_from_its_version(
    run: Run, client: Clients, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two regions the second is published, the first is reported, and the exit status is 1."""
    monkeypatch.setattr(versions, "DIRECT_BYTES", 10)
    # The bucket's name is right for one region and too long for the other, which only S3 finds out.
    client("s3").create_bucket(Bucket="taken-eu-west-1")
    client("s3").put_object(Bucket="taken-eu-west-1", Key="x", Body=b"")
    monkeypatch.setattr(versions, "_make_bucket", _refuse_in("us-east-1", versions._make_bucket))
    words = ("--region", "us-east-1", "--region", "eu-west-1")
    done = run("layer", "publish", layer, "--bucket", "taken-{region}", *words, "--json")
    assert done.status == 1
    assert [version["region"] for version in done.json["versions"]] == ["eu-west-1"]
    assert "The bucket is in another account" in done.json["failed"]["us-east-1"]


def _refuse_in(region: str, make: Callable[..., None]) -> Callable[..., None]:
    """Makes buckets, and is refused in one region as S3 refuses a name that another account has."""
    from botocore.exceptions import ClientError

    def refusing(client: Any, bucket: str, where: str) -> None:
        if where == region:
            raise ClientError({"Error": {"Code": "BucketAlreadyExists", "Message": "taken"}}, "CreateBucket")
        make(client, bucket, where)

    return refusing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.zip"], "nowhere.zip does not exist.\nNext: build the layer with `make layer`"),
        ([__file__], "is not a zip file that can be read"),
        (["{layer}", "--account", "1234"], "'1234' is not the id of an AWS account"),
        (["{layer}", "--organization", "mine"], "'mine' is not the id of an organization"),
        (["{layer}", "--region", "Ireland"], "'Ireland' is not the name of a region"),
        (["{layer}", "--name", "my layer"], "'my layer' is not the name of a layer"),
        (["{layer}", "--bucket", "s3://mine"], "'s3://mine' is not the name of a bucket"),
        (
            ["{layer}", "--bucket", "mine", "--region", "eu-west-1", "--region", "us-east-1"],
            "such as --bucket 'mine-{region}'",
        ),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_sent(
    run: Run, layer: Path, words: list[str], said: str
) -> None:
    """Wrong names are one sentence and the next step, also where nothing listens."""
    done = run(
        "layer",
        "publish",
        *(word.replace("{layer}", str(layer)) for word in words),
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
    )
    assert done.status == 1
    assert said in done.errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": ""}, "no compiled module"),
        ({"tag": "cpython-311-x86_64"}, "python3.11, where Lambda cannot load it"),
        ({"tag": "cpython-313-riscv64"}, "is for riscv64, and Lambda has x86_64 and arm64"),
        ({"packages": (("numpy", "2.4.6", "License: BSD"),)}, "has no torch in python/"),
        ({"content": bytes(262_144_001)}, "unpacks to 262,1"),
    ],
)
def test_what_is_no_layer_for_lambda_is_refused(run: Run, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Zip files that no function could use are refused with the reason."""
    done = run("layer", "publish", write_layer(tmp_path / "layer.zip", **change))
    assert done.status == 1
    assert said in done.errors


def test_without_a_region_the_command_asks_for_one(run: Run, layer: Path, tmp_path: Path) -> None:
    """No --region and none in the settings is a message, not a guess."""
    done = run("layer", "publish", layer, AWS_DEFAULT_REGION="", AWS_REGION="", AWS_CONFIG_FILE=str(tmp_path / "none"))
    assert done.status == 1
    assert "No region is set.\nNext: give --region" in done.errors


def test_licences_are_named_once_and_within_lambdas_limit() -> None:
    """Equal licences are one, choices are in brackets, and what is too long ends with where the rest is."""
    assert license_expression(["MIT AND Zlib", "MIT", "BSD-3-Clause OR Apache-2.0", ""]) == (
        "(BSD-3-Clause OR Apache-2.0) AND MIT AND Zlib"
    )
    assert license_expression(["(MIT AND Zlib) OR ISC"]) == "((MIT AND Zlib) OR ISC)"
    long = license_expression([f"LicenseRef-{number:03}" for number in range(100)])
    assert len(long) <= LICENSE_INFO_LIMIT
    assert long.startswith("LicenseRef-000 AND LicenseRef-001")
    assert long.endswith(" AND others, see python/*.dist-info")
