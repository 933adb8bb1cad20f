"""Private keys that sign releases (Ed25519), and the signatures of a release in the bucket.

A key file is PKCS #8 in PEM without a password, as `openssl genpkey -algorithm ed25519` writes it.
"""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError, ConflictError
from lambda_torch.releases.bucket import Bucket
from serving.releases import format, signing
from serving.releases.format import MAX_DOCUMENT_BYTES, SCHEMA_VERSION, ReleaseRef, file_key
from serving.releases.signing import SIGNATURES_NAME, Signature, SignedRelease

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SigningKey:
    """A private key. `signer` is its public half, as RELEASE_SIGNERS takes it."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key
        self.signer = signing.signer_of(key.public_key().public_bytes_raw())

    def sign(self, ref: ReleaseRef) -> Signature:
        """The signature of a release."""
        value = self._key.sign(signing.message_of(ref))
        return Signature(signer=self.signer, signature=base64.b64encode(value).decode())


def new_key(path: Path) -> SigningKey:
    """Make a key and write it to a new file that only its owner can read.

    Raises:
        FileExistsError: there is such a file. It stays as it is.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return SigningKey(key)


def read_key(path: Path) -> SigningKey:
    """Read a key file.

    Raises:
        BucketError: the file is not an Ed25519 private key without a password.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise BucketError(
            f"{path} is not a private key in PEM without a password: {error}\nNext: lambda-torch key new FILE"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BucketError(f"{path} has a private key of another kind than Ed25519.\nNext: lambda-torch key new FILE")
    return SigningKey(key)


def signatures(bucket: Bucket, version: str) -> list[Signature]:
    """The signatures of a release, valid or not. A release that was never signed has none.

    Raises:
        BucketError: the bucket cannot be read, or the object is damaged.
    """
    return _read(bucket, version)[0]


def add_signature(bucket: Bucket, ref: ReleaseRef, key: SigningKey) -> bool:
    """Add the key's signature to those of the release. Returns False if it was there.

    Raises:
        ConflictError: another command signed the release at the same time.
        BucketError: the bucket cannot be read or written.
    """
    from botocore.exceptions import ClientError

    found, etag = _read(bucket, ref.version)
    added = key.sign(ref)
    if added in found:
        return False
    others = [each for each in found if each.signer != key.signer]
    try:
        body = format.dump(SignedRelease(schema_version=SCHEMA_VERSION, signatures=[*others, added]))
    except ValueError:
        raise BucketError(
            f"Release {ref.version} has {len(others)} signatures, and there is no room for more."
        ) from None
    name = file_key(ref.version, SIGNATURES_NAME)
    with explained(bucket.name):
        try:
            if etag is None:
                bucket.client.put_object(Bucket=bucket.name, Key=name, Body=body, IfNoneMatch="*")
            else:
                bucket.client.put_object(Bucket=bucket.name, Key=name, Body=body, IfMatch=etag)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                raise
            if added not in signatures(bucket, ref.version):
                raise ConflictError(
                    f"Another command signed release {ref.version} at the same time. No channel was moved.\n"
                    "Next: run this command again."
                ) from None
    return True


def _read(bucket: Bucket, version: str) -> tuple[list[Signature], str | None]:
    name = file_key(version, SIGNATURES_NAME)
    with explained(bucket.name):
        try:
            response = bucket.client.get_object(Bucket=bucket.name, Key=name)
        except bucket.client.exceptions.NoSuchKey:
            return [], None
        content = response["Body"].read(MAX_DOCUMENT_BYTES + 1)
    try:
        return format.parse(SignedRelease, content).signatures, response["ETag"]
    except ValueError as error:
        raise BucketError(
            f"{name} is not in the format of signatures: {error}\nNext: delete that object, then sign the release again."
        ) from None
