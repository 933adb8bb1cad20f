/* SIGSEGV: the pager serves its own faults. All others go to the action that the process believes it has.
 *
 * The kernel always has entry() (entry.S), which calls decide() below on a stack of the pager. The action that the
 * process last asked sigaction() for is kept here, and acted out the way the kernel would. calls.c sends such requests
 * to handler_swap(). The idea is that of Android's libsigchain.
 *
 * Why a handler of the process runs as it would without the pager:
 *   - It is entered by a jump, on the stack that the kernel chose, with the kernel's arguments and the kernel's stack
 *     pointer. The kernel's action has the SA_ONSTACK and the SA_RESTART that the process asked for.
 *   - It has the mask that the kernel would give it, with one exception: a stand-in is blocked in place of SIGSEGV
 *     (mask.c). So the handler may touch cold code, as a crash reporter does when it unwinds the stack.
 *   - The pager keeps no record of it. The kernel ends a process that faults while SIGSEGV is blocked, in a handler or
 *     elsewhere. Whether it is blocked is read from the mask that the fault interrupted. That mask is right in whatever
 *     way earlier handlers were left.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

_Static_assert(offsetof(ucontext_t, uc_sigmask) == CONTEXT_MASK && SIG_SETMASK == MASK_SET && SIGSEGV == SIGNAL_SEGV &&
                   (PROT_READ | PROT_WRITE) == MEMORY_READ_WRITE &&
                   (MAP_PRIVATE | MAP_ANONYMOUS) == MEMORY_PRIVATE_ANONYMOUS,
               "the numbers that pager.h has for entry.S");

static struct sigaction others; /* under `lock` */
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Atomic uint64_t recovered;

/* Held for one or two system calls, and only with all signals blocked: no thread that spins here can have interrupted
 * the holder. A forked child could inherit it taken, if another thread forked in that time; so the wait has an end. */
enum { SPINS = 1 << 20 };

static void acquire(void) {
    for (int i = 0; i < SPINS && atomic_flag_test_and_set_explicit(&lock, memory_order_acquire); i++)
        ;
}

static void release(void) {
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* What the program did at the faulting address, so that a write to code, say, is never taken for a cold page. */
static enum access access_of(const ucontext_t *context) {
#if defined __x86_64__
    uint64_t error = (uint64_t)context->uc_mcontext.gregs[REG_ERR]; /* Intel SDM vol. 3, 4.7: page-fault error code */
    return error & 2 ? ACCESS_WRITE : error & 16 ? ACCESS_EXECUTE : ACCESS_READ;
#elif defined __aarch64__
    /* Linux puts the syndrome register beside the registers: arch/arm64/include/uapi/asm/sigcontext.h, esr_context. */
    const uint8_t *record = (const uint8_t *)context->uc_mcontext.__reserved;
    const uint8_t *end = record + sizeof context->uc_mcontext.__reserved;
    while (record + 16 <= end) {
        uint32_t magic, size;
        uint64_t syndrome;
        memcpy(&magic, record, 4);
        memcpy(&size, record + 4, 4);
        memcpy(&syndrome, record + 8, 8);
        if (!magic || size < 16)
            break;
        if (magic == 0x45535201) {
            uint64_t class = syndrome >> 26 & 63;
            return class <= 0x21 ? ACCESS_EXECUTE : syndrome >> 6 & 1 ? ACCESS_WRITE : ACCESS_READ;
        }
        record += size;
    }
    return ACCESS_UNKNOWN;
#endif
}

static int is_ours(const struct sigaction *action) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == entry;
}

static int is_function(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* Give the kernel our action for `number`, with those flags of the process's action that it must see. All signals wait
 * until decide() is done, also the two that glibc keeps for itself, which sigfillset() leaves out. */
static void install(int number, int flags) {
    struct sigaction action = {.sa_sigaction = entry, .sa_flags = SA_SIGINFO | (flags & (SA_ONSTACK | SA_RESTART))};
    memset(&action.sa_mask, 0xff, MASK_BYTES);
    sigaction(number, &action, NULL);
}

/* The kernel's own end for the process. A fault happens again, without a handler; a signal that was sent is sent
 * again. */
static void die_by_default(int number, const siginfo_t *information) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(number, &standard, NULL);
    if (information->si_code <= 0)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

/* A SIGSEGV that was sent while the process believes it is blocked must wait. It waits in the kernel, as the stand-in,
 * which is blocked, and comes back to decide() under that number. Returns 0 if the process uses the stand-in itself. */
enum { PUT_OFF = 0x544c }; /* in si_errno, which the kernel leaves 0 in signals that are sent */

static int put_off(siginfo_t *information, int flags) {
    struct sigaction now;
    sigaction(STAND_IN, NULL, &now);
    if (!is_ours(&now)) {
        if (now.sa_handler != SIG_DFL)
            return 0;
        install(STAND_IN, flags);
    }
    information->si_errno = PUT_OFF;
    if (information->si_code == SI_TKILL)
        return !syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), STAND_IN, information);
    return !syscall(SYS_rt_sigqueueinfo, getpid(), STAND_IN, information);
}

static struct decision hand_on(siginfo_t *information, ucontext_t *context) {
    uint64_t interrupted = mask_word(&context->uc_sigmask);
    int is_sent = information->si_code <= 0, is_blocked = (interrupted & mask_bit(STAND_IN)) != 0;
    information->si_signo = SIGSEGV;
    information->si_errno = 0;
    acquire();
    struct sigaction action = others;
    if (is_sent && is_blocked && put_off(information, action.sa_flags)) {
        release();
        return (struct decision){0};
    }
    int runs = is_function(&action) && (is_sent || !is_blocked);
    if (runs && action.sa_flags & (int)SA_RESETHAND)
        others.sa_handler = SIG_DFL; /* and the rest stays, as in the kernel */
    release();
    if (!runs) {
        if (action.sa_handler != SIG_IGN || !is_sent)
            die_by_default(SIGSEGV, information);
        return (struct decision){0};
    }
    uint64_t asked = mask_word(&action.sa_mask);
    if (!(action.sa_flags & SA_NODEFER))
        asked |= mask_bit(SIGSEGV);
    uint64_t mask = interrupted | mask_to_kernel(asked);
    memcpy(&context->uc_sigmask, &mask, sizeof mask); /* entry() sets it, and puts the interrupted one back here */
    return (struct decision){.handler = action.sa_sigaction, .interrupted = interrupted};
}

static struct decision decide(int number, siginfo_t *information, void *context, void *workspace) {
    int saved = errno;
    struct decision decision = {0};
    if (number == STAND_IN && information->si_errno != PUT_OFF) {
        die_by_default(number, information); /* what it does without us */
        return decision;
    }
    int is_fault = number == SIGSEGV && (information->si_code == SEGV_ACCERR || information->si_code == SEGV_MAPERR);
    if (!is_fault || !fault_serve((uintptr_t)information->si_addr, access_of(context), workspace))
        decision = hand_on(information, context);
    errno = saved;
    return decision;
}

static void block_all(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, before);
}

/* Put back the mask from before. Where SIGSEGV was blocked, which would end the process at its first cold page, its
 * stand-in is blocked from now on. */
static void unblock(const sigset_t *before) {
    sigset_t mask = *before;
    if (sigismember(before, SIGSEGV))
        mask_copy_to_kernel(&mask, before);
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

static void take_over(void) {
    sigset_t saved;
    struct sigaction current;
    block_all(&saved);
    acquire();
    sigaction(SIGSEGV, NULL, &current);
    if (!is_ours(&current)) {
        others = current;
        install(SIGSEGV, current.sa_flags);
    }
    release();
    unblock(&saved);
}

/* Handlers of other signals that are there already, and block SIGSEGV, block the stand-in in its place from now on. */
static void translate_masks(void) {
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (number == SIGSEGV || sigaction(number, NULL, &action) || !is_function(&action) ||
            !sigismember(&action.sa_mask, SIGSEGV))
            continue;
        mask_copy_to_kernel(&action.sa_mask, &action.sa_mask);
        sigaction(number, &action, NULL);
    }
}

void handler_install(void) {
    entry_decide = decide;
    take_over();
    translate_masks();
}

void handler_check(void) {
    struct sigaction current;
    if (sigaction(SIGSEGV, NULL, &current) || is_ours(&current))
        return;
    atomic_fetch_add(&recovered, 1);
    take_over();
}

uint64_t handler_recovered(void) {
    return recovered;
}

void handler_swap(const struct sigaction *action, struct sigaction *before) {
    struct sigaction wanted = {0}, was, current;
    if (action)
        wanted = *action; /* before anything is held: the pointer may be bad */
    sigset_t saved;
    block_all(&saved);
    acquire();
    sigaction(SIGSEGV, NULL, &current);
    was = is_ours(&current) ? others : current; /* a system call may have gone round us */
    if (action) {
        others = wanted;
        install(SIGSEGV, wanted.sa_flags);
        if (!is_ours(&current))
            atomic_fetch_add(&recovered, 1);
    }
    release();
    unblock(&saved);
    if (before)
        *before = was;
}

int handler_restart(int restart) {
    struct sigaction action;
    handler_swap(NULL, &action);
    action.sa_flags = restart ? action.sa_flags | SA_RESTART : action.sa_flags & ~SA_RESTART;
    handler_swap(&action, NULL);
    return 0;
}
