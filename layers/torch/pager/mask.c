/* Whether the process believes that SIGSEGV is blocked in a thread. The thread's own signal mask in the kernel says it.
 *
 * SIGSEGV must never be blocked for the kernel, which ends a process whose thread faults then: a thread that blocks all
 * signals could not touch cold code. But the process must find what it asked for. A real fault while it has SIGSEGV
 * blocked must end it, and SIGSEGV that is sent meanwhile must wait. So another signal's bit stands in: where the
 * process blocks SIGSEGV, the kernel blocks SIGSTKFLT, which Linux never sends and programs do not use.
 *
 * This needs little code, and that is its point. The kernel saves a thread's mask in every signal frame, and restores
 * it when a handler returns. sigsetjmp and getcontext save it, and siglongjmp and setcontext bring it back. New threads
 * and forked children inherit it. All of that is right for the stand-in too, in whatever order handlers are entered and
 * left. A record of the pager's own would be wrong after the first longjmp.
 *
 * The price: a process cannot block SIGSTKFLT alone, and the mask in the context that a handler gets shows SIGSTKFLT
 * where SIGSEGV was blocked.
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
