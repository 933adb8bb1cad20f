/* Whether the process believes that SIGSEGV is blocked in a thread. The kernel keeps this, in the thread's own signal mask.
 *
 * SIGSEGV must never be blocked for the kernel, which ends a process whose thread faults then: a thread that blocks all
 * signals could not touch cold code. But the process must find what it asked for. A real fault while SIGSEGV is blocked ends the
 * process, and a handler that blocks it must find it blocked. So another signal's bit stands in for it. Where the process
 * blocks SIGSEGV, the kernel blocks SIGSTKFLT, which Linux never sends and programs do not use.
 *
 * The point is what needs no code. The kernel saves a thread's mask in every signal frame, and restores it when a handler
 * returns. sigsetjmp and getcontext save it, and siglongjmp and setcontext bring it back. New threads and forked children
 * inherit it. All of that is right for the stand-in without our doing anything, in whatever order handlers are entered and
 * left. Records of our own would go stale at the first longjmp.
 *
 * The price: a process cannot block SIGSTKFLT by itself.
 */
#include "pager.h"

#include <string.h>

uint64_t mask_bit(int number) {
    return (uint64_t)1 << (number - 1);
}

/* The part of a set that the kernel has. A caller's set may be no longer than that. */
uint64_t mask_word(const sigset_t *mask) {
    uint64_t word;
    memcpy(&word, mask, sizeof word);
    return word;
}

uint64_t mask_to_kernel(uint64_t asked) {
    uint64_t stand_in = asked & mask_bit(SIGSEGV) ? mask_bit(STAND_IN) : 0;
    return (asked & ~(mask_bit(SIGSEGV) | mask_bit(STAND_IN))) | stand_in;
}

void mask_copy_to_kernel(sigset_t *to, const sigset_t *asked) {
    uint64_t word = mask_to_kernel(mask_word(asked));
    sigemptyset(to);
    memcpy(to, &word, sizeof word);
}

void mask_show_to_process(sigset_t *kernel) {
    uint64_t word = mask_word(kernel);
    if (word & mask_bit(STAND_IN))
        word |= mask_bit(SIGSEGV);
    word &= ~mask_bit(STAND_IN);
    memcpy(kernel, &word, sizeof word);
}
