/* What libc's signal functions do in a process with the pager. (And, on AArch64, open(): processors.c.)
 *
 * guard.c puts these functions in place of libc's. For everything but SIGSEGV and small alternate stacks they do what
 * libc does. SIGSEGV's action is the one that handler.c keeps. Where the process blocks SIGSEGV, its stand-in is
 * blocked (mask.c). The pager's own calls are bound to libc.
 *
 * Not every way goes through here. A bare system call does not. The loader and libc block all signals for moments, in
 * which they run no code of others. signalfd() does not see a SIGSEGV that waits.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

typedef void (*handler)(int);

enum {
    SYSV_SIGNAL,
    UNDERSCORE_SYSV_SIGNAL,
    SIGSET,
    SIGIGNORE,
    SIGHOLD,
    SIGRELSE,
    SIGINTERRUPT,
    PPOLL_CHK,
    EPOLL_PWAIT2,
    SET_ATTRIBUTE,
    GET_ATTRIBUTE,
    OTHERS,
};

/* libc's function, where this file cannot name it: it is missing in old versions of libc, or deprecated. */
#define ORIGINAL(name, type) ((type)calls[name].originals[0])

/* ---- actions ---- */

static int call_sigaction(int number, const struct sigaction *asked, struct sigaction *before) {
    if (number == SIGSEGV) {
        handler_swap(asked, before);
        return 0;
    }
    struct sigaction action;
    if (asked) {
        action = *asked;
        mask_copy_to_kernel(&action.sa_mask, &asked->sa_mask);
    }
    int failed = sigaction(number, asked ? &action : NULL, before);
    if (!failed && before)
        mask_show_to_process(&before->sa_mask);
    return failed;
}

static handler set_handler(handler wanted, int flags) {
    if (wanted == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    struct sigaction action = {.sa_handler = wanted, .sa_flags = flags}, before;
    sigemptyset(&action.sa_mask);
    if (!(flags & (int)SA_NODEFER))
        sigaddset(&action.sa_mask, SIGSEGV);
    handler_swap(&action, &before);
    return before.sa_handler;
}

static handler call_signal(int number, handler wanted) {
    return number == SIGSEGV ? set_handler(wanted, SA_RESTART) : signal(number, wanted);
}

static handler call_sysv_signal(int number, handler wanted) {
    int which = calls[UNDERSCORE_SYSV_SIGNAL].originals[0] ? UNDERSCORE_SYSV_SIGNAL : SYSV_SIGNAL;
    return number == SIGSEGV ? set_handler(wanted, (int)(SA_RESETHAND | SA_NODEFER))
                             : ORIGINAL(which, handler (*)(int, handler))(number, wanted);
}

static int call_sigignore(int number) {
    if (number != SIGSEGV)
        return ORIGINAL(SIGIGNORE, int (*)(int))(number);
    set_handler(SIG_IGN, 0);
    return 0;
}

static int call_siginterrupt(int number, int flag) {
    return number == SIGSEGV ? handler_restart(!flag) : ORIGINAL(SIGINTERRUPT, int (*)(int, int))(number, flag);
}

/* ---- masks ---- */

static int call_sigprocmask(int how, const sigset_t *asked, sigset_t *before) {
    sigset_t mask;
    if (asked) {
        mask_copy_to_kernel(&mask, asked);
        if (how == SIG_UNBLOCK && sigismember(asked, SIGSEGV))
            sigaddset(&mask, SIGSEGV); /* this thread may have blocked it before the pager was loaded */
    }
    int failed = sigprocmask(how, asked ? &mask : NULL, before);
    if (!failed && before)
        mask_show_to_process(before);
    return failed;
}

static int call_pthread_sigmask(int how, const sigset_t *asked, sigset_t *before) {
    int saved = errno, failed = call_sigprocmask(how, asked, before) ? errno : 0;
    errno = saved;
    return failed;
}

static int change_one(int how, sigset_t *before) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGSEGV);
    return call_sigprocmask(how, &one, before);
}

static int call_sighold(int number) {
    return number == SIGSEGV ? change_one(SIG_BLOCK, NULL) : ORIGINAL(SIGHOLD, int (*)(int))(number);
}

static int call_sigrelse(int number) {
    return number == SIGSEGV ? change_one(SIG_UNBLOCK, NULL) : ORIGINAL(SIGRELSE, int (*)(int))(number);
}

static handler call_sigset(int number, handler wanted) {
    if (number != SIGSEGV)
        return ORIGINAL(SIGSET, handler (*)(int, handler))(number, wanted);
    sigset_t mask;
    struct sigaction before;
    handler_swap(NULL, &before);
    if (wanted != SIG_HOLD && set_handler(wanted, 0) == SIG_ERR)
        return SIG_ERR;
    change_one(wanted == SIG_HOLD ? SIG_BLOCK : SIG_UNBLOCK, &mask);
    return sigismember(&mask, SIGSEGV) ? SIG_HOLD : before.sa_handler;
}

/* BSD's functions, whose masks are the first 32 signals in an int. */
static int change_int(int how, int asked) {
    uint64_t word = (uint32_t)asked;
    sigset_t mask, before;
    sigemptyset(&mask);
    memcpy(&mask, &word, sizeof word);
    return call_sigprocmask(how, &mask, &before) ? -1 : (int)mask_word(&before);
}

static int call_sigblock(int asked) {
    return change_int(SIG_BLOCK, asked);
}

static int call_sigsetmask(int asked) {
    return change_int(SIG_SETMASK, asked);
}

static int call_siggetmask(void) {
    return change_int(SIG_BLOCK, 0);
}

static int call_set_attribute(pthread_attr_t *attributes, const sigset_t *asked) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return ORIGINAL(SET_ATTRIBUTE, int (*)(pthread_attr_t *, const sigset_t *))(attributes, asked ? &mask : NULL);
}

static int call_get_attribute(const pthread_attr_t *attributes, sigset_t *mask) {
    int result = ORIGINAL(GET_ATTRIBUTE, int (*)(const pthread_attr_t *, sigset_t *))(attributes, mask);
    if (!result)
        mask_show_to_process(mask);
    return result;
}

/* ---- waiting: handlers run meanwhile, with the mask that is given here ---- */

static int call_sigsuspend(const sigset_t *asked) {
    sigset_t mask;
    mask_copy_to_kernel(&mask, asked);
    return sigsuspend(&mask);
}

static int call_pselect(int count, fd_set *reads, fd_set *writes, fd_set *exceptions, const struct timespec *timeout,
                        const sigset_t *asked) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return pselect(count, reads, writes, exceptions, timeout, asked ? &mask : NULL);
}

static int call_ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout, const sigset_t *asked) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return ppoll(files, count, timeout, asked ? &mask : NULL);
}

static int call_ppoll_chk(struct pollfd *files, nfds_t count, const struct timespec *timeout, const sigset_t *asked,
                          size_t room) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return ORIGINAL(PPOLL_CHK, int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))(
        files, count, timeout, asked ? &mask : NULL, room);
}

static int call_epoll_pwait(int file, struct epoll_event *events, int room, int timeout, const sigset_t *asked) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return epoll_pwait(file, events, room, timeout, asked ? &mask : NULL);
}

static int call_epoll_pwait2(int file, struct epoll_event *events, int room, const struct timespec *timeout,
                             const sigset_t *asked) {
    sigset_t mask;
    if (asked)
        mask_copy_to_kernel(&mask, asked);
    return ORIGINAL(EPOLL_PWAIT2, int (*)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *))(
        file, events, room, timeout, asked ? &mask : NULL);
}

/* ---- signals that wait: a SIGSEGV that was put off waits as the stand-in (handler.c) ---- */

static int call_sigpending(sigset_t *set) {
    int failed = sigpending(set);
    if (!failed)
        mask_show_to_process(set);
    return failed;
}

static int call_sigtimedwait(const sigset_t *asked, siginfo_t *information, const struct timespec *timeout) {
    uint64_t word = mask_word(asked);
    sigset_t set;
    siginfo_t found;
    word |= mask_to_kernel(word); /* SIGSEGV itself too: it may arrive while this thread waits */
    sigemptyset(&set);
    memcpy(&set, &word, sizeof word);
    int number = sigtimedwait(&set, &found, timeout);
    if (number == STAND_IN && word & mask_bit(SIGSEGV)) {
        number = found.si_signo = SIGSEGV;
        found.si_errno = 0;
    }
    if (number > 0 && information)
        *information = found;
    return number;
}

static int call_sigwaitinfo(const sigset_t *asked, siginfo_t *information) {
    return call_sigtimedwait(asked, information, NULL);
}

static int call_sigwait(const sigset_t *asked, int *number) {
    int saved = errno, found;
    do
        found = call_sigtimedwait(asked, NULL, NULL);
    while (found < 0 && errno == EINTR);
    int failed = found < 0 ? errno : 0;
    errno = saved;
    if (!failed)
        *number = found;
    return failed;
}

#define CALL(name, function, is_needed) {name, (uintptr_t)function, is_needed, {0}}

struct call calls[] = {
    [SYSV_SIGNAL] = CALL("sysv_signal", call_sysv_signal, 0),
    [UNDERSCORE_SYSV_SIGNAL] = CALL("__sysv_signal", call_sysv_signal, 0),
    [SIGSET] = CALL("sigset", call_sigset, 0),
    [SIGIGNORE] = CALL("sigignore", call_sigignore, 0),
    [SIGHOLD] = CALL("sighold", call_sighold, 0),
    [SIGRELSE] = CALL("sigrelse", call_sigrelse, 0),
    [SIGINTERRUPT] = CALL("siginterrupt", call_siginterrupt, 0),
    [PPOLL_CHK] = CALL("__ppoll_chk", call_ppoll_chk, 0),
    [EPOLL_PWAIT2] = CALL("epoll_pwait2", call_epoll_pwait2, 0),
    [SET_ATTRIBUTE] = CALL("pthread_attr_setsigmask_np", call_set_attribute, 0),
    [GET_ATTRIBUTE] = CALL("pthread_attr_getsigmask_np", call_get_attribute, 0),
    [OTHERS] = CALL("sigaction", call_sigaction, 1),
    CALL("__sigaction", call_sigaction, 0),
    CALL("signal", call_signal, 1),
    CALL("bsd_signal", call_signal, 0),
    CALL("ssignal", call_signal, 0),
    CALL("sigprocmask", call_sigprocmask, 1),
    CALL("pthread_sigmask", call_pthread_sigmask, 1),
    CALL("sigblock", call_sigblock, 0),
    CALL("sigsetmask", call_sigsetmask, 0),
    CALL("siggetmask", call_siggetmask, 0),
    CALL("sigsuspend", call_sigsuspend, 0),
    CALL("__sigsuspend", call_sigsuspend, 0),
    CALL("pselect", call_pselect, 0),
    CALL("ppoll", call_ppoll, 0),
    CALL("epoll_pwait", call_epoll_pwait, 0),
    CALL("sigpending", call_sigpending, 0),
    CALL("sigtimedwait", call_sigtimedwait, 0),
    CALL("sigwaitinfo", call_sigwaitinfo, 0),
    CALL("sigwait", call_sigwait, 0),
    CALL("sigaltstack", altstack_swap, 1),
#if defined __aarch64__
    CALL("open", processors_open, 0),
    CALL("open64", processors_open, 0),
#endif
};
const int calls_count = sizeof calls / sizeof *calls;
