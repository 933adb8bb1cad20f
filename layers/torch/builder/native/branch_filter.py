"""The encoder of the branch filter (pager/filter.c has the decoder). It makes x86-64 code about 8 % smaller when compressed.

A call gives the distance to its target, so two calls of one function have different bytes. The filter writes the
address of the target instead, and zstd finds the repetition. pager/filter.c has the exact rule, and why decoding always
gives the same bytes back.
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
