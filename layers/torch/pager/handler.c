/* The SIGSEGV handler: the pager's faults are served, all others go to the action that the process believes it has.
 *
 * The kernel always has on_fault(). What sigaction() was last asked for by anybody else is kept here and acted out, the
 * way the kernel would; guard.c sends such calls to handler_swap(). The idea is that of Android's libsigchain.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static struct sigaction others; /* under `lock` */
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Atomic uint64_t recovered;

/* Held for a few instructions, and only with all signals blocked: nobody who spins here can have interrupted the holder.
 * A forked child could inherit it taken, if another thread forked in those few instructions; so the wait has an end. */
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

static uintptr_t stack_pointer(const ucontext_t *context) {
#if defined __x86_64__
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined __aarch64__
    return (uintptr_t)context->uc_mcontext.sp;
#endif
}

/* Handlers of others that run at this moment, by thread and stack. They run with SIGSEGV unblocked, unlike under the
 * kernel, so that a crash reporter may touch cold code (it unwinds the stack, for which it reads unwind tables). In return
 * a crash inside such a handler must be told from a first one. */
enum { NESTED = 32, HANDLER_STACK = 256 << 10 };
static struct {
    _Atomic long thread;
    uintptr_t frame;
} running[NESTED];

static int is_nested(long thread, const ucontext_t *context) {
    for (int i = 0; i < NESTED; i++)
        if (running[i].thread == thread) {
            if (running[i].frame - stack_pointer(context) < HANDLER_STACK)
                return 1;
            running[i].thread = 0; /* that handler was left by longjmp */
        }
    return 0;
}

/* The kernel's own end for the process: the fault happens again, without a handler. */
static void die_by_default(const siginfo_t *info) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGSEGV, &standard, NULL);
    if (info->si_code <= 0) /* sent by kill() or raise(): it does not happen again by itself */
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
}

static void hand_on(int signal_number, siginfo_t *info, void *context) {
    struct sigaction action;
    acquire();
    action = others;
    if (action.sa_flags & (int)SA_RESETHAND)
        others = (struct sigaction){.sa_handler = SIG_DFL};
    release();
    int is_sent = info->si_code <= 0;
    if (action.sa_handler == SIG_IGN && is_sent)
        return;
    long thread = syscall(SYS_gettid);
    int nested = is_nested(thread, context);
    if (action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL || (nested && !(action.sa_flags & SA_NODEFER))) {
        die_by_default(info);
        return;
    }
    int slot = 0;
    for (; slot < NESTED; slot++) {
        long nobody = 0;
        if (atomic_compare_exchange_strong(&running[slot].thread, &nobody, thread)) {
            running[slot].frame = (uintptr_t)__builtin_frame_address(0);
            break;
        }
    }
    sigset_t mask, saved;
    const ucontext_t *interrupted = context;
    sigorset(&mask, &interrupted->uc_sigmask, &action.sa_mask);
    sigdelset(&mask, SIGSEGV);
    sigprocmask(SIG_SETMASK, &mask, &saved);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signal_number, info, context);
    else
        action.sa_handler(signal_number);
    sigprocmask(SIG_SETMASK, &saved, NULL);
    if (slot < NESTED)
        running[slot].thread = 0;
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    int saved = errno;
    int is_fault = info->si_code == SEGV_ACCERR || info->si_code == SEGV_MAPERR;
    if (!is_fault || !fault_serve((uintptr_t)info->si_addr, access_of(context)))
        hand_on(signal_number, info, context);
    errno = saved;
}

static int is_ours(const struct sigaction *action) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_fault;
}

static void take_over(void) {
    /* All signals wait until the handler is done: one of their handlers could touch the very block that is on its way.
     * SA_ONSTACK, since a handler that is called next may be there to report a stack overflow. */
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART}, before;
    sigfillset(&action.sa_mask);
    sigset_t all, saved;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &saved);
    sigaction(SIGSEGV, &action, &before);
    if (!is_ours(&before)) {
        acquire();
        others = before;
        release();
    }
    sigdelset(&saved, SIGSEGV); /* a blocked SIGSEGV would end the process at its first cold page */
    sigprocmask(SIG_SETMASK, &saved, NULL);
}

void handler_install(void) {
    take_over();
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
    struct sigaction wanted, was;
    if (action)
        wanted = *action; /* before anything is held: the pointer may be bad */
    sigset_t all, saved;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &saved);
    acquire();
    was = others;
    if (action)
        others = wanted;
    release();
    sigprocmask(SIG_SETMASK, &saved, NULL);
    if (before)
        *before = was;
}
