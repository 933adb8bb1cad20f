"""`lambda-torch publish --stack` on the project's own template: its sizes, and its key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from integration.aws_command import Clients, Run
from integration.releases.samples import folder_of
from lambda_torch.releases import fitting, keys
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.keys import SigningKey
from serving.releases.room import MEGABYTE

Deploy = Callable[..., str]
NAME = "models-dev"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release."""
    return folder_of(tmp_path / "release", 1)


def test_the_sizes_are_those_of_the_deployed_stack(
    run: Run, deploy: Deploy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stack has decides, and not what a new stack would have; the release is published all the same."""
    monkeypatch.setattr(fitting, "WORKING_BYTES", 600 * MEGABYTE)
    bucket = deploy(NAME, MemorySize="512")
    done = run("publish", folder, "--bucket", bucket, "--stack", NAME)
    assert done.status == 0, done.errors
    assert f"needs more than 601 MB of memory, and the stack {NAME} has 512" in " ".join(done.errors.split())
    assert "a new stack" not in done.errors
    quiet = run("publish", folder, "--bucket", bucket)
    assert "MB of memory" not in quiet.errors


def test_a_stack_that_is_not_there_is_told_before_anything_is_sent(run: Run, client: Clients, folder: Path) -> None:
    """The name of a stack that does not exist ends the command, and the bucket stays empty."""
    client("s3").create_bucket(Bucket="models")
    done = run("publish", folder, "--bucket", "models", "--stack", "nowhere")
    assert done.status == 1
    assert "nowhere" in done.errors
    assert "Contents" not in client("s3").list_objects_v2(Bucket="models")


def test_a_stack_of_another_kind_is_told(run: Run, client: Clients, folder: Path) -> None:
    """A stack without these parameters is no lambda-torch stack."""
    client("s3").create_bucket(Bucket="models")
    template = '{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}'
    client("cloudformation").create_stack(StackName="other", TemplateBody=template)
    done = run("publish", folder, "--bucket", "models", "--stack", "other")
    assert (done.status, "no parameter MemorySize" in done.errors) == (1, True)


def test_a_release_is_signed_with_the_key_of_the_stack(
    run: Run, deploy: Deploy, client: Clients, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--sign --stack` finds the key in the stack's outputs. (moto has no Ed25519 keys, so another one signs here.)"""
    bucket = deploy(NAME, SigningKey="on")
    (key,) = client("kms").list_keys()["Keys"]
    own, asked = keys.new_key(tmp_path / "key.pem"), []

    def open_key(name: str) -> SigningKey:
        asked.append(name)
        return own

    monkeypatch.setattr(keys, "open_key", open_key)
    done = run("publish", folder, "--bucket", bucket, "--sign", "--stack", NAME)
    assert done.status == 0, done.errors
    assert asked == [f"awskms:{key['KeyArn']}"]
    assert [each.signer for each in keys.signatures(Bucket(client("s3"), bucket), done.output.strip())] == [own.signer]
    assert run("key", "show", "--stack", NAME).output.strip() == own.signer


def test_a_stack_without_a_key_says_how_to_get_one(run: Run, deploy: Deploy, client: Clients, folder: Path) -> None:
    """By default there is no key, and nothing is published without the signature that was asked for."""
    bucket = deploy(NAME)
    assert client("kms").list_keys()["Keys"] == []
    done = run("publish", folder, "--bucket", bucket, "--sign", "--stack", NAME)
    assert done.status == 1
    assert "Next: sam deploy --parameter-overrides SigningKey=on" in done.errors
    assert "Contents" not in client("s3").list_objects_v2(Bucket=bucket)
    without = run("publish", folder, "--bucket", bucket, "--sign")
    assert (without.status, "add --stack NAME" in without.errors) == (2, True)
