"""Signed releases: keys, publications, and the function that refuses what no signer of its own has signed."""

import json
import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from integration.conftest import StartFunction
from integration.releases.conftest import Cli
from integration.releases.samples import named, put_release
from lambda_torch.errors import BucketError
from lambda_torch.releases import channels, keys
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.keys import SigningKey
from lambda_torch.releases.publishing import publish
from serving.releases import signing
from serving.releases.format import ReleaseRef

REQUEST = {"category": "Russian", "start_letters": "R"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[SigningKey]:
    """Two keys."""
    folder = tmp_path_factory.mktemp("keys")
    return [keys.new_key(folder / str(number)) for number in range(2)]


def key_of(bucket: Bucket, version: str) -> str:
    """The S3 key of a release's signatures."""
    assert bucket.name
    return f"releases/{version}/.signatures.json"


def answered(start_function: StartFunction, bucket: Bucket, *signers: str, **more: str) -> tuple[int, str]:
    """Status and body of a new environment that takes only releases of these signers."""
    app = start_function(MODEL_BUCKET=bucket.name, RELEASE_SIGNERS=",".join(signers), **more)
    answer = app.lambda_handler(REQUEST, None)
    return answer["statusCode"], answer["body"]


def test_a_key_is_made_and_shown(cli: Cli, tmp_path: Path) -> None:
    """`key new` prints the public key, keeps the private one from others, and overwrites nothing."""
    file = tmp_path / "release.pem"
    made = cli("key", "new", file)
    assert made.output.startswith("ed25519:")
    assert cli("key", "show", file).output == made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    again = cli("key", "new", file)
    assert (again.status, file.read_bytes()) == (1, before)
    assert str(file) in again.errors


def test_only_ed25519_keys_without_a_password_sign(tmp_path: Path, cli: Cli, folders: list[Path]) -> None:
    """Another file is refused with the next step, before anything is sent."""
    other = generate_private_key(SECP256R1())
    contents = {
        "text": b"secret",
        "kind": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "password": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        done = cli("publish", folders[0], "--sign", tmp_path / name)
        assert done.status == 1
        assert "Next: lambda-torch key new FILE" in done.errors
    assert cli("releases", "--json").json == []


def test_publish_signs_and_verify_shows_who(cli: Cli, tmp_path: Path, folders: list[Path], bucket: Bucket) -> None:
    """A publication signs; a second one with another key adds a signature; a false signature is status 1."""
    signers = [cli("key", "new", tmp_path / str(number)).output.strip() for number in range(2)]
    dry = cli("publish", folders[0], "--sign", tmp_path / "0", "--dry-run")
    assert f"It would be signed by {signers[0]}." in dry.errors.replace("\n", "")
    assert cli("publish", folders[0], "--sign", tmp_path / "0", "--json").json["signer"] == signers[0]
    version = named(bucket)[0] or ""
    assert cli("verify", "current", "--json").json["signers"] == signers[:1]
    for _ in range(2):
        assert cli("publish", folders[0], "--sign", tmp_path / "1").status == 0
    verified = cli("verify", "current")
    assert [f"Signed by {signer}." in verified.errors for signer in signers] == [True, True]

    document = json.loads(bucket.client.get_object(Bucket=bucket.name, Key=key_of(bucket, version))["Body"].read())
    assert [each["signer"] for each in document["signatures"]] == signers
    document["signatures"][0]["signature"] = document["signatures"][1]["signature"]
    bucket.client.put_object(Bucket=bucket.name, Key=key_of(bucket, version), Body=json.dumps(document).encode())
    verified = cli("verify", "current", "--json")
    assert verified.status == 1
    assert verified.json["problems"] == [f"the signature of {signers[0]} is not valid"]
    assert verified.json["signers"] == signers[1:]
    cli("publish", folders[1])
    assert "It is not signed." in cli("verify", "current").errors


def test_an_unsigned_release_is_refused_before_anything_of_it_is_read(
    bucket: Bucket, folders: list[Path], pair: list[SigningKey], start_function: StartFunction
) -> None:
    """The function answers 503 with the next step, and does not notice that the manifest is missing."""
    version = publish(folders[0], bucket).version
    bucket.client.delete_object(Bucket=bucket.name, Key=f"releases/{version}/manifest.json")
    status, body = answered(start_function, bucket, pair[0].signer)
    assert status == 503
    assert json.loads(body)["error"]["code"] == "release_refused"
    assert "has no valid signature of a signer in RELEASE_SIGNERS" in body
    assert "--sign KEYFILE" in body
    assert "manifest" not in body


def test_each_of_several_signers_is_enough(
    bucket: Bucket, folders: list[Path], pair: list[SigningKey], start_function: StartFunction
) -> None:
    """A key is replaced in three steps: both are signers, releases are signed with the new one, the old one goes."""
    old, new = pair
    publish(folders[0], bucket, key=old)
    assert answered(start_function, bucket, old.signer)[0] == 200
    assert answered(start_function, bucket, old.signer, new.signer)[0] == 200
    assert answered(start_function, bucket, new.signer)[0] == 503
    publish(folders[0], bucket, key=new)
    assert answered(start_function, bucket, new.signer)[0] == 200
    assert answered(start_function, bucket, old.signer)[0] == 200


def signature_document(*signatures: Any, **more: Any) -> bytes:
    """The bytes of a document of signatures."""
    return json.dumps({"schema_version": 1, "signatures": signatures, **more}).encode()


def test_forged_documents_are_refused(
    bucket: Bucket, folders: list[Path], pair: list[SigningKey], start_function: StartFunction
) -> None:
    """Signatures of other releases, of other keys under the signer's name, and garbage are no signatures."""
    signer, stranger = pair
    ref = publish(folders[0], bucket).release.ref
    other = ReleaseRef(version=ref.version, manifest_sha256="0" * 64)
    own = signer.sign(ref).model_dump()
    forged = [
        signature_document(signer.sign(other).model_dump()),
        signature_document(signer.sign(ReleaseRef(version="0" * 64, manifest_sha256=ref.manifest_sha256)).model_dump()),
        signature_document({**stranger.sign(ref).model_dump(), "signer": signer.signer}),
        signature_document(stranger.sign(ref).model_dump()),
        signature_document({**own, "signature": own["signature"][:-4] + "AAA="}),
        signature_document({**own, "signature": own["signature"] + "\n"}),
        signature_document({**own, "signature": "\u00e9"}),
        signature_document({**own, "signer": own["signer"] + "="}),
        signature_document(),
        signature_document(own, schema_version=2),
        signature_document(*[own] * 21),
        b"{}",
        b"",
        b"\xff",
    ]
    for content in forged:
        bucket.client.put_object(Bucket=bucket.name, Key=key_of(bucket, ref.version), Body=content)
        status, body = answered(start_function, bucket, signer.signer)
        assert (status, json.loads(body)["error"]["code"]) == (503, "release_refused"), content
    bucket.client.put_object(Bucket=bucket.name, Key=key_of(bucket, ref.version), Body=signature_document(own))
    assert answered(start_function, bucket, signer.signer)[0] == 200


def test_a_running_function_keeps_the_signed_release(
    bucket: Bucket, folders: list[Path], pair: list[SigningKey], start_function: StartFunction
) -> None:
    """An unsigned release that a channel names is refused while the signed one answers."""
    version = publish(folders[0], bucket, key=pair[0]).version
    app = start_function(MODEL_BUCKET=bucket.name, RELEASE_SIGNERS=pair[0].signer, RELEASE_REFRESH_SECONDS="0")
    assert app.lambda_handler(REQUEST, None)["headers"]["X-Model-Version"] == version
    publish(folders[1], bucket)
    for _ in range(3):
        answer = app.lambda_handler(REQUEST, None)
        assert (answer["statusCode"], answer["headers"]["X-Model-Version"]) == (200, version)


def test_two_who_sign_at_once_lose_no_signature(
    bucket: Bucket, pair: list[SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one gets an error with the next step, and the signature of the first one stays."""
    ref = put_release(bucket, 1)
    channels.promote(bucket, "live", ref)
    honest = keys._read
    first, second = pair

    def read(target: Bucket, version: str) -> Any:
        found = honest(target, version)
        monkeypatch.setattr(keys, "_read", honest)
        keys.add_signature(bucket, ref, first)
        return found

    monkeypatch.setattr(keys, "_read", read)
    with pytest.raises(BucketError, match="Another command signed release"):
        keys.add_signature(bucket, ref, second)
    assert [each.signer for each in keys.signatures(bucket, ref.version)] == [first.signer]
    assert keys.add_signature(bucket, ref, second)
    assert not keys.add_signature(bucket, ref, second)


def kms_with(private: Ed25519PrivateKey) -> tuple[Any, Stubber]:
    """A client of KMS that has this key: botocore checks each call and answer against KMS's own description."""
    client = boto3.client("kms", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
    stubber = Stubber(client)
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    answer = {"PublicKey": der, "KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}
    stubber.add_response("get_public_key", answer, {"KeyId": "alias/releases"})
    return client, stubber


@pytest.mark.parametrize("honest", [True, False])
def test_a_key_of_kms_signs(honest: bool) -> None:
    """KMS gets the message itself; what it answers is verified before it is stored."""
    private = Ed25519PrivateKey.generate()
    ref = ReleaseRef(version="a" * 64, manifest_sha256="b" * 64)
    client, stubber = kms_with(private)
    wanted = {"KeyId": "alias/releases", "MessageType": "RAW", "SigningAlgorithm": "ED25519_SHA_512"}
    signature = (private if honest else Ed25519PrivateKey.generate()).sign(signing.message_of(ref))
    stubber.add_response("sign", {"Signature": signature}, {**wanted, "Message": signing.message_of(ref)})
    with stubber:
        key = keys.open_key("awskms:alias/releases", client)
        assert key.signer == signing.signer_of(private.public_key().public_bytes_raw())
        if honest:
            assert signing.is_valid(key.sign(ref), ref)
        else:
            with pytest.raises(BucketError, match="is not valid"):
                key.sign(ref)


def test_refusals_of_kms_are_told_with_the_next_step() -> None:
    """A missing permission, to see the key or to sign, and a key of another kind are errors that say what to do."""
    ref = ReleaseRef(version="a" * 64, manifest_sha256="b" * 64)
    client, stubber = kms_with(Ed25519PrivateKey.generate())
    stubber.add_client_error("sign", "AccessDeniedException", "no")
    stubber.add_client_error("get_public_key", "AccessDeniedException", "no")
    other = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    stubber.add_response("get_public_key", {"PublicKey": other, "KeySpec": "ECC_NIST_P256"})
    with stubber:
        key = keys.open_key("awskms:alias/releases", client)
        with pytest.raises(BucketError, match="kms:Sign"):
            key.sign(ref)
        with pytest.raises(BucketError, match="kms:GetPublicKey"):
            keys.open_key("awskms:alias/releases", client)
        with pytest.raises(BucketError, match="--key-spec ECC_NIST_EDWARDS25519"):
            keys.open_key("awskms:alias/releases", client)


def test_a_missing_key_file_is_named(cli: Cli, tmp_path: Path, folders: list[Path]) -> None:
    """Nothing is published without the key that was asked for."""
    done = cli("publish", folders[0], "--sign", tmp_path / "nowhere.pem")
    assert done.status == 1
    assert "nowhere.pem: No such file" in done.errors
    assert cli("releases", "--json").json == []
