"""Verification of Ed25519 signatures (RFC 8032, section 5.1.7), in plain Python.

The function verifies one short message for each release. The package `cryptography` would do it with 15 MB of files and
about 40 ms of imports; this takes a few milliseconds. Tests compare it with `cryptography` and the RFC's own examples.
Nothing here is secret, so nothing needs constant time. There is no signing here.
"""

import hashlib

KEY_BYTES = 32
SIGNATURE_BYTES = 64

# The field, the order of the base point's group, and the curve's constant (RFC 8032, section 5.1).
_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

# A point (x, y) as (X, Y, Z, T) with x = X/Z, y = Y/Z and x*y = T/Z.
_Point = tuple[int, int, int, int]
_ZERO: _Point = (0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature of a message was made with the private half of a key.

    Args:
        key: the public key, 32 bytes.
        message: the message.
        signature: 64 bytes.
    """
    if len(signature) != SIGNATURE_BYTES or not is_key(key):
        return False
    scalar = int.from_bytes(signature[32:], "little")
    point = _decoded(key)
    # A larger scalar would be a second signature of the same message.
    if scalar >= _L or point is None:
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % _L
    x, y, z, t = point
    expected = _sum(_product(scalar, _BASE), _product(challenge, (-x % _P, y, z, -t % _P)))
    return _encoded(expected) == signature[:32]


def is_key(key: bytes) -> bool:
    """Whether these bytes are a public key: a point of the curve, and none of the eight that fit any message."""
    point = _decoded(key)
    if point is None:
        return False
    for _ in range(3):
        point = _sum(point, point)
    return point[0] % _P != 0


def _sum(one: _Point, other: _Point) -> _Point:
    """The sum of two points (RFC 8032, section 5.1.4). The formula also holds for equal points."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _product(scalar: int, point: _Point) -> _Point:
    result = _ZERO
    while scalar:
        if scalar & 1:
            result = _sum(result, point)
        point = _sum(point, point)
        scalar >>= 1
    return result


def _encoded(point: _Point) -> bytes:
    """A point as 32 bytes (RFC 8032, section 5.1.2)."""
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decoded(encoded: bytes) -> _Point | None:
    """The point of 32 bytes (RFC 8032, section 5.1.3). None if they are not the encoding of a point."""
    if len(encoded) != KEY_BYTES:
        return None
    value = int.from_bytes(encoded, "little")
    sign, y = value >> 255, value & ((1 << 255) - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _SQRT_OF_MINUS_ONE % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


_DECODED_BASE = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
assert _DECODED_BASE is not None
_BASE: _Point = _DECODED_BASE
