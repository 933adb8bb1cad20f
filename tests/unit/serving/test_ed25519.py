import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.project import ROOT
from serving.releases import ed25519

# RFC 8032, section 7.1, tests 1 to 3: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
# The y of the curve's points of order 1, 2, 4 and 8, and their encodings with the sign of x.
Y_OF_ORDER_8 = 55188659117513257062467267217118295137698188065244968500265048394206261417927
SMALL_Y = (1, P - 1, 0, Y_OF_ORDER_8, P - Y_OF_ORDER_8)
SMALL = [y | sign << 255 for y in SMALL_Y for sign in (0, 1)]

keys = st.binary(min_size=32, max_size=32)
messages = st.binary(max_size=200)


def accepted_by_library(key: bytes, message: bytes, signature: bytes) -> bool:
    """What `cryptography` (OpenSSL) says of a signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_examples_of_the_standard(key: str, message: str, signature: str) -> None:
    """RFC 8032's own signatures are valid, and none fits another message."""
    public, text, value = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.is_key(public)
    assert ed25519.verify(public, text, value)
    assert not ed25519.verify(public, text + b"x", value)


@given(seed=keys, message=messages)
def test_signatures_of_the_library_are_valid(seed: bytes, message: bytes) -> None:
    """Whatever the key and the message, a signature that `cryptography` makes is valid."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    assert ed25519.verify(private.public_key().public_bytes_raw(), message, private.sign(message))


@given(seed=keys, message=messages.filter(len), bit=st.integers(0, 10_000), part=st.sampled_from([0, 1, 2]))
def test_one_other_bit_makes_a_signature_invalid(seed: bytes, message: bytes, bit: int, part: int) -> None:
    """A bit of the key, of the message or of the signature is enough, and `cryptography` agrees."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    parts = [private.public_key().public_bytes_raw(), message, private.sign(message)]
    changed = bytearray(parts[part])
    position = bit % (len(changed) * 8)
    changed[position // 8] ^= 1 << position % 8
    parts[part] = bytes(changed)
    assert not ed25519.verify(*parts)
    assert not accepted_by_library(*parts)


@given(key=keys, message=messages, signature=st.binary(min_size=64, max_size=64))
def test_arbitrary_bytes_are_refused(key: bytes, message: bytes, signature: bytes) -> None:
    """Bytes that nobody signed raise no error, and are no signature."""
    assert not ed25519.verify(key, message, signature)


@given(key=st.binary(max_size=70), signature=st.binary(max_size=130))
def test_other_lengths_are_refused(key: bytes, signature: bytes) -> None:
    """A key has 32 bytes and a signature 64."""
    assert not ed25519.verify(key, b"", signature)
    assert len(key) == 32 or not ed25519.is_key(key)


def test_a_signature_has_one_form() -> None:
    """The scalar plus the order of the group would be a second signature of the same message."""
    key, message, signature = (bytes.fromhex(each) for each in VECTORS[1])
    scalar = int.from_bytes(signature[32:], "little")
    other = signature[:32] + (scalar + L).to_bytes(32, "little")
    assert not ed25519.verify(key, message, other)
    assert not accepted_by_library(key, message, other)


@pytest.mark.parametrize("value", SMALL)
def test_keys_that_fit_any_message_are_refused(value: int) -> None:
    """With a point of small order as the key, a signature is easy to make without a private key."""
    key = value.to_bytes(32, "little")
    assert not ed25519.is_key(key)
    # The neutral point and the scalar 0: a valid signature under the formula alone, for such keys and some messages.
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert not any(ed25519.verify(key, bytes([number]), forged) for number in range(16))


def test_the_points_of_small_order_are_all_eight() -> None:
    """The list above has each of them."""
    points = [ed25519._decoded(value.to_bytes(32, "little")) for value in SMALL]
    assert len({point for point in points if point is not None}) == 8


def test_a_coordinate_has_one_form() -> None:
    """A y of the field's size or more is another encoding of a smaller one."""
    assert not any(ed25519.is_key((P + more).to_bytes(32, "little")) for more in range(19))


def test_without_a_signer_nothing_of_it_is_imported() -> None:
    """A function that needs no signatures does not pay for their code."""
    program = "import serving.releases.store, sys; print([name for name in sys.modules if name.endswith(('ed25519', 'signing'))])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
