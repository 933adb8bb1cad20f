/* The branch filters: builder/native/branch_filter.py turns the relative displacements of x86-64 code into absolute
 * addresses, since zstd finds repeated targets but not repeated distances; this turns them back. arm64_filter.py does
 * the same to AArch64 code. A pager calls one of them, and the linker drops the other.
 *
 * In x86-64 code two forms are met: CALL/JMP rel32 (E8, E9), and common opcodes with a RIP-relative operand (ModRM mod=00, rm=101).
 * Only displacements within +-2^29 are converted, modulo 2^30, which keeps the three top bits equal; and a form is
 * stepped over whole, converted or not. So every byte that decides is the same in both directions, and the filter
 * undoes itself exactly whatever the bytes mean. The idea is that of the BCJ filter of xz and 7-Zip.
 */
#include "pager.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Opcodes that are often followed by a RIP-relative operand: mov, lea, SSE/AVX moves and arithmetic, cmp, call/jmp. */
static const uint8_t rip_relative[256] = {
    [0x8b] = 1, [0x8d] = 1, [0x89] = 1, [0xff] = 1, [0x10] = 1, [0x11] = 1, [0x28] = 1, [0x6f] = 1,
    [0x58] = 1, [0x59] = 1, [0x3b] = 1, [0x39] = 1, [0x54] = 1, [0x57] = 1, [0xc7] = 1, [0x80] = 1,
};

enum { WINDOW = 1 << 30 };

static void to_relative(uint8_t *displacement, uint32_t next) {
    uint8_t top = displacement[3];
    if (top >= 0x20 && top < 0xe0)
        return;
    uint32_t value;
    memcpy(&value, displacement, 4);
    value = (value - next) & (WINDOW - 1);
    if (value & WINDOW >> 1)
        value |= ~(uint32_t)(WINDOW - 1);
    memcpy(displacement, &value, 4);
}

/* The first position from `i` on where one of the two forms may stand. Most bytes are stepped over 16 at a time: byte
 * by byte, the filter would take longer than the decompression. */
static size_t next_candidate(const uint8_t *bytes, size_t i, size_t count) {
#ifdef __SSE2__
    for (; i + 17 <= count; i += 16) {
        __m128i code = _mm_loadu_si128((const __m128i *)(bytes + i));
        __m128i modrm = _mm_loadu_si128((const __m128i *)(bytes + i + 1));
        __m128i branch = _mm_cmpeq_epi8(_mm_and_si128(code, _mm_set1_epi8((char)0xfe)), _mm_set1_epi8((char)0xe8));
        __m128i relative = _mm_cmpeq_epi8(_mm_and_si128(modrm, _mm_set1_epi8((char)0xc7)), _mm_set1_epi8(0x05));
        int found = _mm_movemask_epi8(_mm_or_si128(branch, relative));
        if (found)
            return i + (size_t)__builtin_ctz((unsigned)found);
    }
#else
    (void)bytes, (void)count;
#endif
    return i;
}

void filter_x86_decode(uint8_t *bytes, size_t count, uint32_t address) {
    for (size_t i = next_candidate(bytes, 0, count); i + 6 <= count; i = next_candidate(bytes, i, count)) {
        uint8_t code = bytes[i];
        if ((code & 0xfe) == 0xe8) {
            to_relative(bytes + i + 1, address + (uint32_t)i + 5);
            i += 5;
        } else if (rip_relative[code] && (bytes[i + 1] & 0xc7) == 0x05) {
            to_relative(bytes + i + 2, address + (uint32_t)i + 6);
            i += 6;
        } else {
            i++;
        }
    }
}

/* BL has a distance of 26 bits in words, and ADRP one of 21 bits in pages, of which the two lowest stand apart. */
void filter_arm64_decode(uint8_t *bytes, size_t count, uint32_t address) {
    for (size_t i = 0; i + 4 <= count; i += 4) {
        uint32_t word, here = address + (uint32_t)i;
        memcpy(&word, bytes + i, 4);
        if (word >> 26 == 0x25) {
            word = (word & 0xfc000000) | ((word - here / 4) & 0x03ffffff);
        } else if ((word & 0x9f000000) == 0x90000000) {
            uint32_t pages = ((word >> 29 & 3) | (word >> 3 & 0x1ffffc)) - here / 4096;
            word = (word & 0x9f00001f) | (pages & 3) << 29 | (pages & 0x1ffffc) << 3;
        } else {
            continue;
        }
        memcpy(bytes + i, &word, 4);
    }
}
