"""`lambda-torch promote --to-bucket`: from the bucket of one account to that of another, which cannot read each other's."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from integration.aws_command import Run, runner
from integration.releases.samples import contents, named, put_release
from lambda_torch.releases import keys
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.copying import copy_release
from serving.releases.format import MANIFEST_NAME, ReleaseRef, file_key

PRODUCTION = "210987654321"
ROLE = f"arn:aws:iam::{PRODUCTION}:role/promoter"


class Accounts(NamedTuple):
    """Two accounts: a bucket of each, and the role for the second one."""

    staging: Bucket
    production: Bucket
    url: str
    credentials: dict[str, str]


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    """A cloud in which no account may use another's bucket."""
    monkeypatch.setenv("MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS", "false")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://localhost:{port}"

    def client(service: str, **credentials: str) -> Any:
        make: Any = boto3.client
        own = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", **credentials}
        return make(service, endpoint_url=url, region_name="us-east-1", **own)

    taken = client("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    there = {
        "aws_access_key_id": taken["AccessKeyId"],
        "aws_secret_access_key": taken["SecretAccessKey"],
        "aws_session_token": taken["SessionToken"],
    }
    buckets = Bucket(client("s3"), "staging-models"), Bucket(client("s3", **there), "production-models")
    for each in buckets:
        each.client.create_bucket(Bucket=each.name)
    yield Accounts(*buckets, url, there)
    requests.post(f"{url}/moto-api/reset", timeout=30)
    server.stop()


@pytest.fixture
def run(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `lambda-torch` as an identity of the first account."""
    return runner(accounts.url, monkeypatch)


@pytest.fixture
def refs(accounts: Accounts) -> list[ReleaseRef]:
    """Two releases of staging. The second one is current."""
    found = [put_release(accounts.staging, number, note=f"number {number}") for number in range(2)]
    keys.put_signature(accounts.staging, found[1], _signature(found[1]))
    return found


def _signature(ref: ReleaseRef) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return keys.SigningKey(key.public_key().public_bytes_raw(), key.sign).sign(ref)


def words(ref: ReleaseRef, *more: str) -> list[str]:
    """The command that promotes a release to production by a role."""
    to = ["--to-bucket", "production-models", "--to-role", ROLE]
    return ["promote", ref.version[:12], "--bucket", "staging-models", *to, *more]


def test_the_buckets_are_closed_to_each_other(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """What the other tests rely on: without the role the target cannot be used, and nothing is changed."""
    done = run("promote", refs[0].version, "--bucket", "staging-models", "--to-bucket", "production-models")
    assert done.status == 1
    assert "The bucket production-models cannot be used" in done.errors
    assert contents(accounts.production) == {}


def test_a_release_goes_from_account_to_account(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """Files, manifest and signatures are the same bytes there, the channel names the release, and staging is as it was."""
    before = contents(accounts.staging)
    done = run(*words(refs[1]), "--to-channel", "live", "--json")
    assert done.status == 0, done.errors
    assert (done.json["channel"], done.json["sent"], done.json["existed"]) == ("live", ["data.txt"], False)
    assert named(accounts.production) == (refs[1].version, None, None)
    assert accounts.production.release(refs[1].version).ref == refs[1]
    assert keys.signatures(accounts.production, refs[1].version) == keys.signatures(accounts.staging, refs[1].version)
    assert contents(accounts.staging) == before
    again = run(*words(refs[1]))
    assert f"already serves {refs[1].version}" in again.output
    assert "It had every file." in again.errors


def test_profiles_name_both_accounts(accounts: Accounts, refs: list[ReleaseRef], run: Run, tmp_path: Path) -> None:
    """Two profiles do the same as a role."""
    there = "\n".join(f"{name} = {value}" for name, value in accounts.credentials.items())
    file = tmp_path / "credentials"
    file.write_text(
        f"[staging]\naws_access_key_id = testing\naws_secret_access_key = testing\n\n[production]\n{there}\n"
    )
    to = ["--profile", "staging", "--to-bucket", "production-models", "--to-profile", "production"]
    done = run(
        "promote", refs[0].version, "--bucket", "staging-models", *to,
        AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="",
    )  # fmt: skip
    assert done.status == 0, done.errors
    assert named(accounts.production) == (refs[0].version, None, None)


def test_a_dry_run_says_what_would_go(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """Nothing is written in either account."""
    done = run(*words(refs[1]), "--dry-run")
    assert done.status == 0, done.errors
    assert "1 files would be sent" in done.errors
    assert f"would serve {refs[1].version}" in done.output
    assert contents(accounts.production) == {}


def test_a_damaged_release_does_not_arrive(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """A file that is not what the manifest says is not written, nor is the manifest, and no channel is moved."""
    key = file_key(refs[1].version, "data.txt")
    for content in (b"releaSe 1", b"release 1 and more", b"release", b""):
        accounts.staging.client.put_object(Bucket="staging-models", Key=key, Body=content)
        done = run(*words(refs[1]))
        assert done.status == 1
        assert "is damaged at the source" in done.errors
        assert not [name for name in contents(accounts.production) if not name.endswith("/.lease")]


def test_a_file_with_other_bytes_at_the_target_is_sent_again(accounts: Accounts, refs: list[ReleaseRef]) -> None:
    """A file there that only claims the right hash, from a copy that went wrong, is found when the copy is read."""
    entry = accounts.staging.release(refs[1].version).manifest.files["data.txt"]
    key = file_key(refs[1].version, "data.txt")
    wrong = b"x" * entry.size
    accounts.production.client.put_object(
        Bucket="production-models", Key=key, Body=wrong, Metadata={"sha256": entry.sha256}
    )
    copy_release(accounts.staging, accounts.production, refs[1].version)
    body = accounts.production.client.get_object(Bucket="production-models", Key=key)["Body"].read()
    assert hashlib.sha256(body).hexdigest() == entry.sha256


def test_a_manifest_that_is_there_stays(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """The same files, published there with another note, keep it; the channel names what is there, and the command says so."""
    other = put_release(accounts.production, 1, note="of production")
    done = run(*words(refs[1]))
    assert done.status == 0, done.errors
    assert "golden examples of its own" in done.errors
    state = accounts.production.channel("live")
    assert state.channel is not None
    assert state.channel.current == other != refs[1]


def test_a_copy_keeps_fields_that_this_version_does_not_know(accounts: Accounts, refs: list[ReleaseRef]) -> None:
    """The manifest is copied byte by byte, so its hash stays the one that was signed."""
    key = file_key(refs[0].version, MANIFEST_NAME)
    document = json.loads(accounts.staging.client.get_object(Bucket="staging-models", Key=key)["Body"].read())
    body = json.dumps({**document, "of_a_later_version": 1}).encode()
    accounts.staging.client.put_object(Bucket="staging-models", Key=key, Body=body)
    copy_release(accounts.staging, accounts.production, refs[0].version)
    assert accounts.production.client.get_object(Bucket="production-models", Key=key)["Body"].read() == body


@pytest.mark.parametrize("option", ["--to-channel", "--to-profile", "--to-role", "--to-region"])
def test_options_of_the_target_need_a_target(option: str, run: Run) -> None:
    """Half of a target is a usage error."""
    done = run("promote", "abc", "--bucket", "staging-models", option, "live")
    assert (done.status, "need --to-bucket" in done.errors) == (2, True)


def test_a_bucket_is_not_its_own_target(accounts: Accounts, refs: list[ReleaseRef], run: Run) -> None:
    """The same bucket twice is refused."""
    done = run("promote", refs[0].version, "--bucket", "staging-models", "--to-bucket", "staging-models")
    assert (done.status, "Both buckets are staging-models" in done.errors) == (1, True)
