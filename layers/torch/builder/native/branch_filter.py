"""The branch filter, encoding side (pager/filter.c undoes it): makes x86-64 code compress about 8 % better.

A call names its target by distance, so that two calls of one function have different bytes. The filter writes the target
instead, which zstd then finds repeated. See pager/filter.c for the exact rule and why it always undoes itself.
"""

import re
import struct

NONE, X86 = 0, 1
"""The `filter` numbers of the side file."""

_OPCODES = rb"\x8b\x8d\x89\xff\x10\x11\x28\x6f\x58\x59\x3b\x39\x54\x57\xc7\x80"
_RIP_RELATIVE = rb"\x05\x0d\x15\x1d\x25\x2d\x35\x3d"
# The lookahead of one byte keeps CALL/JMP in step with the decoder, which needs six bytes for either form.
_BRANCH = re.compile(rb"([\xe8\xe9])(....)(?=.)|([" + _OPCODES + rb"][" + _RIP_RELATIVE + rb"])(....)", re.DOTALL)
_DISPLACEMENT = struct.Struct("<I")
_REACH = 1 << 29
_WINDOW = 2 * _REACH


def encode_x86(code: bytes, address: int) -> bytes:
    """Turn relative displacements into absolute addresses, modulo 2^30.

    Args:
        code: Bytes of x86-64 code, of any content.
        address: The library address of the first byte.

    Returns:
        As many bytes; `filter_x86_decode` of pager/filter.c turns them back exactly.
    """

    def to_absolute(match: re.Match[bytes]) -> bytes:
        head = match[1] or match[3]
        (displacement,) = _DISPLACEMENT.unpack(match[2] or match[4])
        if _REACH <= displacement < (1 << 32) - _REACH:
            return match[0]
        value = (displacement + address + match.end()) % _WINDOW
        if value >= _REACH:
            value += (1 << 32) - _WINDOW
        return head + _DISPLACEMENT.pack(value)

    return _BRANCH.sub(to_absolute, code)
