"""The encoder of the branch filter for AArch64 code (pager/filter.c has the decoder). Code is a sixth smaller when compressed.

As in `branch_filter`, zstd finds repeated targets but not repeated distances. Two instructions are changed: BL (a call) and ADRP
(the page of a constant or a variable). B, a jump, is left alone: nearly all jumps stay inside of their function, where the same
distances repeat, and code was larger with B changed.

An instruction is a word of four bytes, and the bits that say which one it is stay. So both directions change the same words.
"""

import array
import re

ARM64 = 2
"""The `filter` number of the side file."""

# The highest byte of a word: BL is 100101.., and ADRP is 1..10000 (Arm Architecture Reference Manual, C4.1).
_CHANGED = re.compile(rb"[\x94-\x97]|[\x90\xb0\xd0\xf0]")


def encode_arm64(code: bytes, address: int) -> bytes:
    """Turn relative distances into absolute addresses: in words modulo 2^26 (BL), in pages modulo 2^21 (ADRP).

    Args:
        code: Bytes of AArch64 code, of any content.
        address: The library address of the first byte, a multiple of 4.

    Returns:
        As many bytes; `filter_arm64_decode` of pager/filter.c turns them back exactly.
    """
    whole = len(code) // 4 * 4
    words = array.array("I", code[:whole])
    for match in _CHANGED.finditer(code[3:whole:4]):
        at = match.start()
        word, here = words[at], address + 4 * at & 0xFFFFFFFF
        if word >> 26 == 0b100101:
            words[at] = word & 0xFC000000 | word + here // 4 & 0x03FFFFFF
        else:
            pages = (word >> 29 & 3 | word >> 3 & 0x1FFFFC) + here // 4096
            words[at] = word & 0x9F00001F | (pages & 3) << 29 | (pages & 0x1FFFFC) << 3
    return words.tobytes() + code[whole:]
