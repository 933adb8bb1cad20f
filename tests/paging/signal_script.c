/* A program that does with signals what a script says, and prints what it sees. It knows nothing of the pager: tests run
 * the same script with a whole library and with a split one, and compare what was printed and how the process ended.
 *
 *     signal_script <libplain.so> <step> ...
 *
 * Steps, of the main program and, joined by commas, of handlers:
 *     segv=FLAGS:STEPS  usr1=FLAGS:STEPS   install a handler that runs these steps, joined by commas. Flags: i SA_SIGINFO,
 *                       d SA_NODEFER, k SA_ONSTACK, r SA_RESETHAND, f everything in sa_mask, s SIGSEGV in sa_mask
 *     segv  usr1        the same, in a handler: install this handler again, with no steps
 *     default  ignore   SIG_DFL or SIG_IGN for SIGSEGV
 *     action            print SIGSEGV's action
 *     cold              call a few functions that were not called before
 *     fault@N           read a bad address with N KiB more stack in use; sigsetjmp with the mask before it
 *     bare@N            the same; sigsetjmp without the mask
 *     overflow          call without end until the stack is used up, from which one comes back as from fault@0
 *     write             write to the library's code, from which one comes back as from fault@0
 *     jump              in a handler: siglongjmp to the last place
 *     skip              in a handler: step over the faulting instruction and return to it (SA_SIGINFO, first level only)
 *     raise  kill       send SIGSEGV to this thread, or to the process
 *     tell              send SIGUSR1 to this thread
 *     block  unblock  fill  empty  mask    SIGSEGV's bit, the whole mask, print the mask (without SIGSTKFLT)
 *     hold  release     sighold and sigrelse
 *     sigblock  sigsetmask  sigset  unset   BSD's functions for all signals, and sigset() with SIG_HOLD and SIG_DFL
 *     interrupt         siginterrupt
 *     pending  wait     print whether SIGSEGV is pending; sigwait for it
 *     suspend  ppoll  pselect  epoll       wait for SIGUSR1, which is sent before, with all else blocked
 *     stack=N  stack    set an alternate stack of N bytes, or none; print it
 *     canary            print whether something was written below or above the last alternate stack
 *     thread  masked    the rest of the script runs in a new thread; masked: one that was started with all signals blocked
 *     attribute         the same, with all signals blocked by the thread's attributes
 *     fork              the rest of the script runs in a child
 *     crowd             50 threads, one after another, set a small alternate stack; print how many mappings they leave
 *     late  load        as the first step: the library is not loaded yet; load it now
 *     exit              _exit(7)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { FUNCTIONS = 160, COLD_AT_ONCE = 3, PLACES = 16, MAX_DEPTH = 6, MAX_HANDLERS = 60, MARGIN = 32768, CANARY = 0xa5, SEGV_BIT = 1 << (SIGSEGV - 1) };

static uint64_t (*library_call)(int, uint64_t);
static char *code;
static const char *library_path;
static const char *segv_steps = "", *usr1_steps = "";
static _Thread_local sigjmp_buf places[PLACES];
static _Thread_local int place, depth;
static _Thread_local ucontext_t *context_now;
static _Thread_local uint8_t *stack_memory;
static _Thread_local size_t stack_size;

static void say(const char *format, ...) {
    char line[256];
    va_list more;
    va_start(more, format);
    int length = vsnprintf(line, sizeof line, format, more);
    va_end(more);
    line[length++] = '\n';
    if (write(1, line, (size_t)length) != length)
        _exit(98);
}

static void run(const char *steps, char end);

static void on_signal(int number, siginfo_t *information, void *context) {
    stack_t now;
    sigset_t mask;
    sigaltstack(NULL, &now);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    static _Atomic int handlers;
    if (++depth > MAX_DEPTH || ++handlers > MAX_HANDLERS) {
        say("handlers without end");
        _exit(99);
    }
    say("handler %d, %s, on stack %d, blocked %d", number, information ? "details" : "simple", now.ss_flags & SS_ONSTACK,
        sigismember(&mask, SIGSEGV));
    if (information)
        say("  code %d, address %lx", information->si_code, /* other addresses differ from run to run */
            information->si_code > 0 && (uintptr_t)information->si_addr < 0x10000 ? (long)information->si_addr : 0);
    ucontext_t *before = context_now;
    context_now = context;
    run(number == SIGSEGV ? segv_steps : usr1_steps, ',');
    context_now = before;
    depth--;
    say("handler %d returns", number);
}

static void on_simple(int number) {
    on_signal(number, NULL, NULL);
}

static void install(int number, const char *flags) {
    struct sigaction action = {.sa_handler = on_simple};
    for (; *flags && *flags != ':'; flags++)
        switch (*flags) {
        case 'i': action.sa_sigaction = on_signal; action.sa_flags |= SA_SIGINFO; break;
        case 'd': action.sa_flags |= SA_NODEFER; break;
        case 'k': action.sa_flags |= SA_ONSTACK; break;
        case 'r': action.sa_flags |= (int)SA_RESETHAND; break;
        case 'f': sigfillset(&action.sa_mask); break;
        case 's': sigaddset(&action.sa_mask, SIGSEGV); break;
        default: _exit(97);
        }
    if (sigaction(number, &action, NULL))
        say("sigaction: %d", errno);
    *(number == SIGSEGV ? &segv_steps : &usr1_steps) = *flags ? flags + 1 : "";
}

static void cold(void) {
    static _Atomic int next;
    uint64_t sum = 0;
    int first = __atomic_fetch_add((int *)&next, COLD_AT_ONCE, __ATOMIC_RELAXED);
    for (int i = 0; i < COLD_AT_ONCE; i++)
        sum += library_call((first + i) * 37 % FUNCTIONS, 1); /* far from each other */
    say("cold %016lx", (long)sum);
}

static void read_at(volatile char *address) {
#if defined __x86_64__
    __asm__ volatile("movb (%%rax), %%al" : "+a"(address)); /* 2 bytes */
#else
    __asm__ volatile("ldrb w9, [%0]" : : "r"(address) : "w9");
#endif
}

static __attribute__((noinline)) int use_stack(int kilobytes, volatile char *address) {
    volatile char pad[1024];
    pad[0] = (char)kilobytes;
    if (kilobytes)
        return use_stack(kilobytes - 1, address) + pad[0] * 0;
    read_at(address);
    return pad[0];
}

static __attribute__((noinline)) int overflow(int number) {
    volatile char pad[512];
    pad[0] = (char)number;
    return number < 0 ? 0 : overflow(number + 1) + pad[0];
}

static void touch(const char *what, int kilobytes, int with_mask, volatile char *address) {
    if (place == PLACES)
        _exit(96);
    int depth_before = depth;
    ucontext_t *context_before = context_now;
    place++;
    if (sigsetjmp(places[place - 1], with_mask)) {
        depth = depth_before;
        context_now = context_before;
        say("%s: came back by a jump", what);
    } else {
        if (!address)
            overflow(0);
        else if (address == code)
            *address = 1;
        else
            use_stack(kilobytes, address);
        say("%s: went on", what);
    }
    place--;
}

static void change_mask(int how, int all) {
    sigset_t mask;
    sigemptyset(&mask);
    if (all)
        sigfillset(&mask);
    else if (how != SIG_SETMASK)
        sigaddset(&mask, SIGSEGV);
    int failed = pthread_sigmask(how, &mask, NULL);
    if (failed)
        say("pthread_sigmask: %d", failed);
}

static void set_stack(size_t size) {
    stack_t stack = {.ss_flags = SS_DISABLE};
    if (size) {
        stack_memory = mmap(NULL, size + 2 * MARGIN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(stack_memory, CANARY, size + 2 * MARGIN);
        stack_size = size;
        stack = (stack_t){.ss_sp = stack_memory + MARGIN, .ss_size = size};
    }
    if (sigaltstack(&stack, NULL))
        say("sigaltstack: %d", errno);
}

static void show_stack(void) {
    stack_t now;
    sigaltstack(NULL, &now);
    say("stack %d, %ld bytes, is mine %d", now.ss_flags, now.ss_flags == SS_DISABLE ? 0 : (long)now.ss_size,
        stack_memory && now.ss_sp == stack_memory + MARGIN);
}

static void canary(void) {
    int written = 0;
    for (size_t i = 0; stack_memory && i < MARGIN; i++)
        written += (stack_memory[i] != CANARY) + (stack_memory[MARGIN + stack_size + i] != CANARY);
    say("canary: %d bytes written", written);
}

static void wait_for_usr1(const char *how) {
    sigset_t all_but, old, usr1;
    struct epoll_event event;
    sigfillset(&all_but);
    sigdelset(&all_but, SIGUSR1);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &old);
    pthread_kill(pthread_self(), SIGUSR1);
    int result = 0, file = epoll_create1(0);
    if (!strcmp(how, "suspend"))
        result = sigsuspend(&all_but);
    else if (!strcmp(how, "ppoll"))
        result = ppoll(NULL, 0, NULL, &all_but);
    else if (!strcmp(how, "pselect"))
        result = pselect(0, NULL, NULL, NULL, NULL, &all_but);
    else
        result = epoll_pwait(file, &event, 1, -1, &all_but);
    say("%s: %d, %d", how, result, errno);
    close(file);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void *on_thread(void *steps) {
    run(steps, ' ');
    return NULL;
}

static void run_thread(const char *steps, int masked, int with_attribute) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    if (with_attribute) {
        if (pthread_attr_setsigmask_np(&attributes, &all) || pthread_attr_getsigmask_np(&attributes, &old))
            _exit(94);
        say("attribute %d", sigismember(&old, SIGSEGV));
    }
    if (masked)
        pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, &attributes, on_thread, (void *)(uintptr_t)steps))
        _exit(95);
    if (masked)
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_join(thread, NULL);
    say("joined");
}

static void run_child(const char *steps) {
    int status;
    pid_t child = fork();
    if (!child) {
        run(steps, ' ');
        _exit(0);
    }
    waitpid(child, &status, 0);
    say("child: %x", status & 0x7f ? status & 0x7f : status); /* whether a core was written is not the script's */
}

static int mappings(void) {
    int count = 0, c;
    FILE *file = fopen("/proc/self/maps", "r");
    while ((c = getc(file)) != EOF)
        count += c == '\n';
    fclose(file);
    return count;
}

static void *with_stack(void *memory) {
    stack_t stack = {.ss_sp = memory, .ss_size = 4096}, now;
    return (void *)(uintptr_t)(sigaltstack(&stack, NULL) || sigaltstack(NULL, &now) || now.ss_sp != memory);
}

static void crowd(void) {
    static char memory[4096];
    int failed = 0, before = 0;
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, with_stack, memory);
        pthread_join(thread, &result);
        failed += result != NULL;
        if (!i)
            before = mappings(); /* libc keeps the first thread's own stack for the others */
    }
    say("crowd: %d failed, %d mappings left", failed, mappings() - before);
}

static void load(void) {
    void *library = dlopen(library_path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(2);
    }
    *(void **)&library_call = dlsym(library, "call");
    code = dlsym(library, "f3");
}

/* One step. Returns 1 if it has run the rest of the script. */
static int step(const char *word, const char *rest) {
    char name[16];
    size_t length = strcspn(word, "=@ ,");
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    const char *value = word[length] == '=' || word[length] == '@' ? word + length + 1 : "";
    sigset_t mask;
    struct sigaction action;
    int number;
    sigemptyset(&mask);
    if (!strcmp(name, "segv"))
        install(SIGSEGV, depth ? "" : value);
    else if (!strcmp(name, "usr1"))
        install(SIGUSR1, depth ? "" : value);
    else if (!strcmp(name, "default"))
        signal(SIGSEGV, SIG_DFL);
    else if (!strcmp(name, "ignore"))
        signal(SIGSEGV, SIG_IGN);
    else if (!strcmp(name, "action")) {
        sigaction(SIGSEGV, NULL, &action);
        say("action %d, flags %x, blocks %d", action.sa_handler == SIG_DFL ? 0 : action.sa_handler == SIG_IGN ? 1 : 2,
            (unsigned)action.sa_flags & ~0x04000000u, sigismember(&action.sa_mask, SIGSEGV)); /* without SA_RESTORER */
    } else if (!strcmp(name, "cold"))
        cold();
    else if (!strcmp(name, "fault") || !strcmp(name, "bare"))
        touch(name, atoi(value), !strcmp(name, "fault"), (volatile char *)0x6008);
    else if (!strcmp(name, "overflow"))
        touch(name, 0, 1, NULL);
    else if (!strcmp(name, "write"))
        touch(name, 0, 1, code);
    else if (!strcmp(name, "jump"))
        place ? siglongjmp(places[place - 1], 1) : say("nowhere to jump");
    else if (!strcmp(name, "skip")) {
        if (context_now)
#if defined __x86_64__
            context_now->uc_mcontext.gregs[REG_RIP] += 2;
#else
            context_now->uc_mcontext.pc += 4;
#endif
    } else if (!strcmp(name, "raise"))
        pthread_kill(pthread_self(), SIGSEGV);
    else if (!strcmp(name, "kill"))
        kill(getpid(), SIGSEGV);
    else if (!strcmp(name, "tell"))
        pthread_kill(pthread_self(), SIGUSR1);
    else if (!strcmp(name, "block"))
        change_mask(SIG_BLOCK, 0);
    else if (!strcmp(name, "unblock"))
        change_mask(SIG_UNBLOCK, 0);
    else if (!strcmp(name, "fill"))
        change_mask(SIG_SETMASK, 1);
    else if (!strcmp(name, "empty"))
        change_mask(SIG_SETMASK, 0);
    else if (!strcmp(name, "mask")) {
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        sigdelset(&mask, SIGSTKFLT);
        say("mask %016lx", *(long *)&mask);
    } else if (!strcmp(name, "hold"))
        sighold(SIGSEGV);
    else if (!strcmp(name, "release"))
        sigrelse(SIGSEGV);
    else if (!strcmp(name, "sigblock"))
        say("sigblock %x, %x", sigblock(~0) & SEGV_BIT, siggetmask() & SEGV_BIT);
    else if (!strcmp(name, "sigsetmask"))
        say("sigsetmask %x, %x", sigsetmask(~0) & SEGV_BIT, siggetmask() & SEGV_BIT);
    else if (!strcmp(name, "sigset"))
        say("sigset %d", sigset(SIGSEGV, SIG_HOLD) == SIG_HOLD);
    else if (!strcmp(name, "unset"))
        say("unset %d", sigset(SIGSEGV, SIG_DFL) == SIG_HOLD);
    else if (!strcmp(name, "interrupt"))
        siginterrupt(SIGSEGV, 1);
    else if (!strcmp(name, "pending")) {
        sigpending(&mask);
        say("pending %d", sigismember(&mask, SIGSEGV));
    } else if (!strcmp(name, "wait")) {
        sigaddset(&mask, SIGSEGV);
        int failed = sigwait(&mask, &number);
        say("waited %d, %d", failed, number);
    } else if (!strcmp(name, "stack") && *value)
        set_stack((size_t)atoi(value));
    else if (!strcmp(name, "stack"))
        show_stack();
    else if (!strcmp(name, "canary"))
        canary();
    else if (!strcmp(name, "thread") || !strcmp(name, "masked") || !strcmp(name, "attribute"))
        return run_thread(rest, !strcmp(name, "masked"), !strcmp(name, "attribute")), 1;
    else if (!strcmp(name, "fork"))
        return run_child(rest), 1;
    else if (!strcmp(name, "load"))
        load();
    else if (!strcmp(name, "crowd"))
        crowd();
    else if (!strcmp(name, "exit"))
        _exit(7);
    else if (strcmp(name, "late"))
        wait_for_usr1(name);
    return 0;
}

static void run(const char *steps, char end) {
    while (*steps && *steps != ' ' ) {
        const char *rest = strchr(steps, end), *space = strchr(steps, ' ');
        if (end == ',' && space && (!rest || rest > space))
            rest = NULL;
        if (step(steps, rest ? rest + 1 : "") || !rest)
            return;
        steps = rest + 1;
    }
}

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    library_path = arguments[1];
    if (strncmp(arguments[2], "late", 4))
        load();
    run(arguments[2], ' ');
    say("end");
    return 0;
}
