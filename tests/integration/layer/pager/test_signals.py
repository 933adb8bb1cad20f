"""SIGSEGV belongs to the process, not to the pager: other handlers, other faults, blocked signals, small stacks."""

import signal
from textwrap import dedent

import pytest

from paging.kit import USE_BOTH, Tree, compile_library

CRASH = "ctypes.c_int.from_address(16).value"

# A library that installs a SIGSEGV handler by itself when it is loaded, and can be told to in other ways.
HANDLERS = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

int seen, seen_code;
void *seen_address;
static sigjmp_buf back;
static int (*in_handler)(int, uint64_t);

static void with_details(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    ++seen, seen_code = info->si_code, seen_address = info->si_addr;
    if (in_handler) in_handler(97, 1);
    siglongjmp(back, 1);
}
static void simple(int number) { (void)number; ++seen; siglongjmp(back, 1); }

void install(int details, int flags) {
    struct sigaction a = {0};
    if (details) a.sa_sigaction = with_details, a.sa_flags = SA_SIGINFO; else a.sa_handler = simple;
    a.sa_flags |= flags;
    sigaction(SIGSEGV, &a, 0);
}
void install_by_signal(void) { signal(SIGSEGV, simple); }
void install_by_system_call(void) {
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } a = {0};
    a.handler = (void *)simple;
    syscall(SYS_rt_sigaction, SIGSEGV, &a, (void *)0, 8);
}
/* A handler that goes round libc and calls the one before it as a function, as Go's runtime does. What it has in registers
 * must be there afterwards. */
typedef struct {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void *restorer;
    unsigned long mask;
} kernel_action;
static kernel_action earlier;
static volatile long numbers[8] = {3, 5, 7, 11, 13, 17, 19, 23};
int chained, lost;
static void chain(int number, siginfo_t *info, void *context) {
    long a = numbers[0], b = numbers[1], c = numbers[2], d = numbers[3], e = numbers[4], f = numbers[5], g = numbers[6];
    ++chained;
    earlier.handler(number, info, context);
    if (a != 3 || b != 5 || c != 7 || d != 11 || e != 13 || f != 17 || g != 19) ++lost;
}
void install_chain(void) {
    syscall(SYS_rt_sigaction, SIGSEGV, (void *)0, &earlier, 8);
    kernel_action a = earlier;
    a.handler = chain;
    syscall(SYS_rt_sigaction, SIGSEGV, &a, (void *)0, 8);
}
void *installed(void) { struct sigaction a; sigaction(SIGSEGV, 0, &a); return (void *)a.sa_handler; }
void *simple_address(void) { return (void *)simple; }
void touch_in_handler(int (*function)(int, uint64_t)) { in_handler = function; }
int survives(uintptr_t address) { return sigsetjmp(back, 1) ? 1 : *(volatile int *)address & 0; }

static int (*on_thread)(int, uint64_t);
static void *blocked_thread(void *result) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, 0);
    for (int i = 0; i < 160; i++) on_thread(i, 1);
    *(int *)result = 1;
    return 0;
}
int run_blocked(int (*function)(int, uint64_t)) {
    pthread_t t; int result = 0;
    on_thread = function;
    pthread_create(&t, 0, blocked_thread, &result);
    pthread_join(t, 0);
    return result;
}
static volatile int handled;
static void on_usr1(int number) { (void)number; for (int i = 0; i < 160; i++) on_thread(i, 1); handled = 1; }
/* How many bytes of its alternate stack a handler uses that touches cold code. The stack is one that the pager leaves alone. */
long run_in_handler(int (*function)(int, uint64_t)) {
    long unused = 0;
    stack_t stack = {.ss_size = 65536};
    stack.ss_sp = memset(malloc(stack.ss_size), 0xa5, stack.ss_size);
    struct sigaction a = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK};
    sigfillset(&a.sa_mask);
    on_thread = function;
    sigaltstack(&stack, 0);
    sigaction(SIGUSR1, &a, 0);
    raise(SIGUSR1);
    while (((unsigned char *)stack.ss_sp)[unused] == 0xa5) unused++;
    return handled ? (long)stack.ss_size - unused : -1;
}
long largest_frame(void) { return (long)getauxval(51) /* AT_MINSIGSTKSZ */; }
#ifdef AT_LOAD
__attribute__((constructor)) static void at_load(void) { install(1, 0); }
#endif
"""
USE_ALL = USE_BOTH + dedent("""
    handlers = ctypes.CDLL(os.environ["HANDLERS"])
    handlers.survives.argtypes = [ctypes.c_size_t]
    handlers.installed.restype = handlers.simple_address.restype = ctypes.c_void_p
    def seen(name="seen", kind=ctypes.c_int):
        return kind.in_dll(handlers, name).value
""")


@pytest.fixture(scope="session")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that tells programs where the handler library is."""
    path = compile_library(HANDLERS, tmp_path_factory.mktemp("handlers") / "libhandlers.so", "-pthread", "-O2")
    return {"HANDLERS": str(path)}


@pytest.fixture(scope="session")
def installing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same library in a variant whose constructor installs its handler."""
    folder = tmp_path_factory.mktemp("installing")
    path = compile_library(HANDLERS, folder / "libinstalling.so", "-pthread", "-DAT_LOAD")
    return {"HANDLERS": str(path)}


def test_faulthandler_leaves_the_pager_in_place(split: Tree, expected: list[int]) -> None:
    """After faulthandler.enable() cold code still comes back, and a real crash still gets faulthandler's report."""
    program = USE_BOTH + "import faulthandler; faulthandler.enable()\nprint(call_all(plain), flush=True)\n" + CRASH
    done = split.run(program)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout.strip() == str(expected)
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_faulthandler_enabled_before(split: Tree, expected: list[int]) -> None:
    """A handler that was there before the pager still gets the faults that are not the pager's."""
    program = "import faulthandler; faulthandler.enable()\n" + USE_BOTH + "print(call_all(plain), flush=True)\n" + CRASH
    done = split.run(program)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout.strip() == str(expected)
    assert "Fatal Python error: Segmentation fault" in done.stderr


@pytest.mark.parametrize("details", [0, 1])
def test_a_later_handler_gets_the_other_faults(
    split: Tree, handlers: dict[str, str], expected: list[int], details: int
) -> None:
    """A handler that a library installs later is called for real faults, again and again, and only for these."""
    program = f"""
    handlers.install({details}, 0)
    first = call_all(plain)
    survived = [handlers.survives(4096 * 7 + 8) for _ in range(3)]
    print(json.dumps([first, survived, seen(), pager.stats().recovered, seen("seen_address", ctypes.c_void_p)]))
    """
    first, survived, seen, recovered, address = split.result(USE_ALL + dedent(program), **handlers)
    assert first == expected
    assert survived == [1, 1, 1]
    assert seen == 3
    assert recovered == 0
    assert address == (4096 * 7 + 8 if details else None)


def test_a_library_that_installs_a_handler_while_it_loads(
    split: Tree, installing: dict[str, str], expected: list[int]
) -> None:
    """A library that is loaded after the pager and calls sigaction in its constructor does not displace the pager."""
    program = (
        "results = call_all(plain)\nprint(json.dumps([results, handlers.survives(64), seen(), pager.stats().guarded]))"
    )
    assert split.result(USE_ALL + program, **installing) == [expected, 1, 1, True]


def test_a_process_sees_the_handler_that_it_installed(split: Tree, handlers: dict[str, str]) -> None:
    """sigaction reports what was installed last, by whatever function, and never the pager's handler."""
    program = """
    before = handlers.installed()
    handlers.install_by_signal()
    mine = handlers.installed() == handlers.simple_address()
    signal.signal(signal.SIGSEGV, signal.SIG_IGN)
    ignored = handlers.installed()
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    print(json.dumps([before, mine, ignored, handlers.installed()]))
    """
    assert split.result(USE_ALL + dedent(program), **handlers) == [None, True, 1, None]


def test_a_handler_that_went_round_libc_is_found(split: Tree, handlers: dict[str, str], expected: list[int]) -> None:
    """Where a handler was installed by a bare system call, `check` puts the pager's back and keeps the other one next."""
    program = """
    handlers.install_by_system_call()
    found = [pager.check(), pager.check()]
    results = call_all(plain)
    print(json.dumps([found, results, handlers.survives(64), pager.stats().recovered]))
    """
    assert split.result(USE_ALL + dedent(program), **handlers) == [[True, False], expected, 1, 1]


def test_a_handler_that_went_round_libc_and_calls_the_pager(
    split: Tree, handlers: dict[str, str], expected: list[int]
) -> None:
    """A handler in front of the pager's may call it as a function, for cold code and for real faults, and loses no register."""
    program = """
    handlers.install(1, 0)
    handlers.install_chain()
    results = call_all(plain)
    survived = [handlers.survives(64) for _ in range(3)]
    print(json.dumps([results, survived, seen("chained") > 20, seen("lost"), seen()]))
    """
    assert split.result(USE_ALL + dedent(program), **handlers) == [expected, [1, 1, 1], True, 0, 3]


def test_loading_a_split_library_looks_for_a_displaced_handler(
    split: Tree, handlers: dict[str, str], expected: list[int]
) -> None:
    """A later split library brings the pager's handler back by itself."""
    program = """
    plain = load("package/lib/libplain.so")
    handlers = ctypes.CDLL(os.environ["HANDLERS"])
    handlers.install_by_system_call()
    throwing = load("package/lib/libthrowing.so")
    print(json.dumps([call_all(plain), throwing.attempt(1), pager.stats().recovered]))
    """
    assert split.result(dedent(program), **handlers) == [expected, -11, 1]


def test_reset_and_nested_handlers(split: Tree, handlers: dict[str, str]) -> None:
    """SA_RESETHAND holds for one fault; the next one ends the process as it would without the pager."""
    program = "handlers.install(1, signal_flags)\nprint(handlers.survives(64), flush=True)\nhandlers.survives(64)"
    done = split.run(USE_ALL + "signal_flags = ctypes.c_int(0x80000000)\n" + program, **handlers)
    assert done.stdout.strip() == "1"
    assert done.returncode == -signal.SIGSEGV


def test_cold_code_within_a_segv_handler(split: Tree, handlers: dict[str, str]) -> None:
    """A crash reporter may touch cold code in its SIGSEGV handler, which the kernel would have run with SIGSEGV blocked."""
    program = """
    handlers.touch_in_handler(plain.call)
    handlers.install(1, 0)
    before = pager.stats().faults
    survived = handlers.survives(64)
    print(json.dumps([survived, pager.stats().faults > before]))
    """
    assert split.result(USE_ALL + dedent(program), **handlers) == [1, True]


def test_a_crash_within_a_segv_handler_ends(split: Tree, handlers: dict[str, str]) -> None:
    """A handler that crashes itself is not called again and again: the process ends."""
    program = """
    handlers.touch_in_handler(ctypes.cast(64, ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint64)))
    handlers.install(1, 0)
    handlers.survives(64)
    """
    assert split.run(USE_ALL + dedent(program), **handlers).returncode == -signal.SIGSEGV


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGSEGV, signal.SIG_IGN)\n"])
def test_real_faults_end_the_process(split: Tree, before: str) -> None:
    """Without a handler, or with SIGSEGV ignored, a real fault ends the process by SIGSEGV, as the kernel has it."""
    for order in (before + USE_BOTH, USE_BOTH + before):
        assert split.run(order + "call_all(plain)\n" + CRASH).returncode == -signal.SIGSEGV


def test_sent_signals(split: Tree) -> None:
    """A SIGSEGV that another process sends ends the process, or is ignored, or reaches Python's handler, as without pager."""
    send = "os.kill(os.getpid(), signal.SIGSEGV)\n"
    ignore = "signal.signal(signal.SIGSEGV, signal.SIG_IGN)\n"
    catch = "got = []\nsignal.signal(signal.SIGSEGV, lambda *_: got.append(1))\n"
    assert split.run(USE_BOTH + send).returncode == -signal.SIGSEGV
    assert split.result(USE_BOTH + ignore + send + "print(len(call_all(plain)))") == 160
    assert split.result(USE_BOTH + catch + send + "time.sleep(0.01)\nprint(json.dumps(got))") == [1]


@pytest.mark.parametrize("loaded", ["", "plain.call(3, 1)\n"])
def test_a_write_to_code_is_a_crash(split: Tree, loaded: str) -> None:
    """Writing to the library's code is nothing to page in, whether the code is there already or not."""
    program = USE_BOTH + loaded + "ctypes.c_int.from_address(ctypes.cast(plain.f3, ctypes.c_void_p).value).value = 1"
    assert split.run(program).returncode == -signal.SIGSEGV


def test_threads_that_block_all_signals(split: Tree, handlers: dict[str, str]) -> None:
    """A thread that blocks every signal, as worker threads of libraries do, can touch cold code."""
    program = "print(json.dumps([handlers.run_blocked(plain.call), pager.stats().faults > 20]))"
    assert split.result(USE_ALL + program, **handlers) == [1, True]


def test_pythons_own_masks(split: Tree, expected: list[int]) -> None:
    """Blocking all signals from Python, before the pager or after, leaves cold code reachable."""
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
    for program in (block + USE_BOTH, USE_BOTH + block):
        assert split.result(program + "print(json.dumps(call_all(plain)))") == expected


def test_the_pager_needs_no_stack(split: Tree, handlers: dict[str, str]) -> None:
    """Cold code that a handler on an alternate stack touches costs the kernel's second frame there, and not a byte more."""
    program = """
    handlers.run_in_handler.restype = handlers.largest_frame.restype = ctypes.c_long
    before = pager.stats().faults
    frame = handlers.largest_frame()
    used = handlers.run_in_handler(plain.call)
    faults = pager.stats().faults - before
    again = handlers.run_in_handler(plain.call)
    print(json.dumps([used, again, frame, faults]))
    """
    used, again, frame, faults = split.result(USE_ALL + dedent(program), **handlers)
    assert faults > 20
    assert 0 < again < used
    # The red zone of 128 bytes, and the alignment of the frame's parts, come on top of it.
    assert used - again <= frame + 128 + 64


def test_descriptors_may_be_closed(split: Tree, expected: list[int]) -> None:
    """The pager holds no descriptor: a program that closes them all goes on paging."""
    program = "os.closerange(3, 256)\nprint(json.dumps(call_all(plain)))"
    assert split.result(USE_BOTH + program) == expected
