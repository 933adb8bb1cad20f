"""Private keys that sign releases (Ed25519), and the signatures of a release in the bucket.

A private key is a file or a key of AWS KMS. A file is PKCS #8 in PEM without a password, as
`openssl genpkey -algorithm ed25519` writes it. A key of KMS has the key spec ECC_NIST_EDWARDS25519, and never leaves KMS.
"""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambda_torch.errors import BucketError, ConflictError
from lambda_torch.releases.bucket import Bucket
from serving.releases import ed25519, format, signing
from serving.releases.format import SCHEMA_VERSION, ReleaseRef, file_key
from serving.releases.signing import SIGNATURES_NAME, Signature, SignedRelease

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


# How `--sign` names a key of KMS: this, then the key's id, ARN or alias.
KMS_PREFIX: Final = "awskms:"
# What DER has before the 32 bytes of an Ed25519 public key (RFC 8410, section 4).
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")


class SigningKey:
    """A private key.

    Args:
        public: the public key, 32 bytes.
        sign: makes the signature of a message, 64 bytes.

    Attributes:
        signer: the public key, as RELEASE_SIGNERS takes it.
    """

    def __init__(self, public: bytes, sign: Callable[[bytes], bytes]) -> None:
        self._sign = sign
        self.signer = signing.signer_of(public)

    def sign(self, ref: ReleaseRef) -> Signature:
        """The signature of a release.

        Raises:
            BucketError: KMS did not sign, or its signature is not valid.
        """
        value = base64.b64encode(self._sign(signing.message_of(ref))).decode()
        signature = Signature(signer=self.signer, signature=value)
        if not signing.is_valid(signature, ref):
            raise BucketError(f"The signature of {self.signer} is not valid. Nothing was signed.")
        return signature


def _of_private(key: "Ed25519PrivateKey") -> SigningKey:
    return SigningKey(key.public_key().public_bytes_raw(), key.sign)


def open_key(name: str, kms: Any = None) -> SigningKey:
    """The private key that `--sign` names: a file, or `awskms:` and a key of KMS.

    Args:
        name: what `--sign` names.
        kms: the client of KMS; by default one with the credentials of the environment.

    Raises:
        BucketError: there is no such key, or it is of another kind.
    """
    if not name.startswith(KMS_PREFIX):
        return read_key(Path(name))
    from botocore.exceptions import BotoCoreError, ClientError

    key_id = name.removeprefix(KMS_PREFIX)
    try:
        if kms is None:
            import boto3

            kms = boto3.client("kms")
        described = kms.get_public_key(KeyId=key_id)
    except (BotoCoreError, ClientError) as error:
        raise BucketError(
            f"KMS does not give the public key of {key_id}: {error}\n"
            "Next: look up the key's id, and whether you may call kms:GetPublicKey and kms:Sign."
        ) from None
    der, client = described["PublicKey"], kms
    if not der.startswith(_DER_PREFIX) or len(der) != len(_DER_PREFIX) + ed25519.KEY_BYTES:
        raise BucketError(
            f"The key {key_id} of KMS is of the kind {described.get('KeySpec')}, and releases are signed with Ed25519.\n"
            "Next: aws kms create-key --key-spec ECC_NIST_EDWARDS25519 --key-usage SIGN_VERIFY"
        )

    def sign(message: bytes) -> bytes:
        try:
            answer = client.sign(KeyId=key_id, Message=message, MessageType="RAW", SigningAlgorithm="ED25519_SHA_512")
        except (BotoCoreError, ClientError) as error:
            raise BucketError(
                f"KMS did not sign with {key_id}: {error}\nNext: check the permission kms:Sign."
            ) from None
        return bytes(answer["Signature"])

    return SigningKey(der[len(_DER_PREFIX) :], sign)


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
    return _of_private(key)


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
    return _of_private(key)


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
    return put_signature(bucket, ref, key.sign(ref))


def put_signature(bucket: Bucket, ref: ReleaseRef, added: Signature) -> bool:
    """The same for a signature that was made before."""
    found, etag = _read(bucket, ref.version)
    if added in found:
        return False
    others = [each for each in found if each.signer != added.signer]
    try:
        body = format.dump(SignedRelease(schema_version=SCHEMA_VERSION, signatures=[*others, added]))
    except ValueError:
        raise BucketError(
            f"Release {ref.version} has {len(others)} signatures, and there is no room for more."
        ) from None
    name = file_key(ref.version, SIGNATURES_NAME)
    if not bucket.write(name, body, etag) and added not in signatures(bucket, ref.version):
        raise ConflictError(
            f"Another command signed release {ref.version} at the same time. No channel was moved.\n"
            "Next: run this command again."
        )
    return True


def _read(bucket: Bucket, version: str) -> tuple[list[Signature], str | None]:
    advice = "delete that object, then sign the release again."
    found, etag = bucket.document(file_key(version, SIGNATURES_NAME), SignedRelease, "signatures", advice)
    return ([] if found is None else found.signatures), etag
