"""Signatures of releases: who published what.

    releases/V/.signatures.json     the signatures of release V, one for each signer

A signature is over the release's version and the SHA-256 of its manifest, and so over every byte of the release. It says
nothing about channels. No file of a release can have this name.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field

from serving.errors import ReleaseUnavailableError
from serving.releases import ed25519, format
from serving.releases.format import MAX_DOCUMENT_BYTES, Document, ReleaseRef, SchemaVersion, file_key
from serving.storage.objects import FetchError, Objects, read_small

SIGNATURES_NAME: Final = ".signatures.json"
KEY_PREFIX: Final = "ed25519:"

# It begins each signed message, so that a signature of something else is never one of a release.
_CONTEXT = b"lambda-torch release, signature format 1\n"


class Signature(Document):
    """One signature: the signer's public key, as `ed25519:` and base64, and the 64 bytes of the signature in base64."""

    signer: Annotated[str, Field(max_length=100)]
    signature: Annotated[str, Field(max_length=100)]


class SignedRelease(Document):
    """`releases/<version>/.signatures.json`."""

    schema_version: SchemaVersion
    signatures: Annotated[list[Signature], Field(max_length=20)]


def message_of(ref: ReleaseRef) -> bytes:
    """What is signed: a context, the version and the SHA-256 of the manifest, a line for each."""
    return _CONTEXT + f"{ref.version}\n{ref.manifest_sha256}\n".encode()


def signer_of(key: bytes) -> str:
    """The text that stands for a public key of 32 bytes."""
    return KEY_PREFIX + base64.b64encode(key).decode()


def is_valid(signature: Signature, ref: ReleaseRef) -> bool:
    """Whether this is the signer's signature of this release."""
    key, value = _decoded(signature.signer.removeprefix(KEY_PREFIX)), _decoded(signature.signature)
    # Of the texts that base64 reads as the same key, only one counts.
    return signer_of(key) == signature.signer and ed25519.verify(key, message_of(ref), value)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def check(objects: Objects, bucket: str, ref: ReleaseRef, signers: Sequence[str], key_prefix: str = "") -> None:
    """Refuse a release that none of the signers has signed. Nothing else of the release is read before.

    Args:
        objects: S3.
        bucket: the bucket's name.
        ref: the release, as a channel names it.
        signers: the public keys, one of which must have signed it.
        key_prefix: what all keys begin with.

    Raises:
        ReleaseUnavailableError: `release_refused` with the reason, or `storage_unavailable`.
    """
    key = key_prefix + file_key(ref.version, SIGNATURES_NAME)
    try:
        content, _ = read_small(objects, bucket, key, MAX_DOCUMENT_BYTES)
        signatures = format.parse(SignedRelease, content).signatures
    except FileNotFoundError:
        signatures = []
    except ValueError as error:
        raise ReleaseUnavailableError("release_refused", f"{key} is not of this format: {error}") from None
    except FetchError as error:
        raise ReleaseUnavailableError("storage_unavailable", str(error)) from error
    # Only signatures of these signers are computed, so that a document of many others costs no time.
    if any(each.signer in signers and is_valid(each, ref) for each in signatures):
        return
    found = ", ".join(each.signer for each in signatures) or "nobody"
    raise ReleaseUnavailableError(
        "release_refused",
        f"Release {ref.version} has no valid signature of a signer in RELEASE_SIGNERS ({', '.join(signers)}). "
        f"{key} names {found}. Next: lambda-torch publish FOLDER --sign KEYFILE",
    )
