"""What a process does with signals ends in the same way with a split library as with a whole one.

Each test runs a script of `tests/paging/signal_script.c` twice, once with each library. What the script prints, and how the
process ends, must be equal. So nothing here says what is right: the kernel and libc do.
"""

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paging.kit import PLAIN, ROOT, Tree

SOURCE = ROOT / "tests" / "paging" / "signal_script.c"
LONGEST_OUTPUT = 20_000

Outcome = tuple[int, str]
Run = Callable[[Tree, str], Outcome]

LEAVING = [
    # A handler that is left by siglongjmp, then faults from shallower and deeper stacks.
    "segv=i:cold,jump fault@0 fault@8 fault@1 fault@64 fault@200 fault@0 cold mask action",
    "segv=:jump fault@64 fault@0 fault@65 fault@1",
    "segv=d:jump fault@0 fault@9 bare@3 bare@30 bare@0",
    "segv=ik:jump stack=131072 fault@0 fault@9 fault@2 stack",
    "segv=i:jump thread fault@0 fault@30 fault@1 cold",
    "segv=i:cold,jump fork fault@0 fault@12 cold",
    # Without the mask, SIGSEGV stays blocked, and the next fault ends the process.
    "segv=i:cold,jump bare@0 mask cold fault@3",
    "segv=i:cold,jump bare@0 unblock mask fault@3 bare@4 fault@5",
    # Out of two handlers at once, and out of the inner one alone.
    "segv=id:cold,fault@1,jump fault@0",
    "usr1=:fault@2,cold,fault@9,jump segv=i:cold,jump tell fault@3",
    "segv=ir:cold,skip fault@0 action fault@0",
]
NESTED = [
    # A fault in a handler that blocks SIGSEGV ends the process. A cold page in it does not.
    "segv=i:cold,fault@0 fault@0",
    "segv=i:cold,write fault@0",
    "segv=is:cold,mask,skip fault@0",
    "segv=ds:cold,fault@0 fault@0",
    # It may unblock SIGSEGV, as a JVM's error reporter does, or be installed with SA_NODEFER.
    "segv=i:unblock,segv,fault@0 fault@3",
    "segv=i:cold,unblock,mask,fault@1,cold,skip fault@0",
    "segv=i:mask,empty,mask,cold,default,fault@1 fault@0",
    "segv=id:cold,mask,fault@0,skip fault@2",
    "segv=id:default,fault@0 fault@0",
    # The mask of another signal's handler counts too.
    "usr1=s:cold,fault@0 segv=i:skip fault@0 tell",
    "usr1=f:cold,mask,unblock,fault@0,cold segv=i:cold,skip tell mask",
    "usr1=:cold,fault@0,mask segv=i:cold,mask,skip tell mask",
]
MASKS = [
    "mask block mask cold unblock mask fill mask cold empty mask",
    "hold mask cold release mask hold cold fault@0",
    "segv=i:mask,block,mask,jump fault@0 mask block fault@0",
    "masked mask cold unblock mask cold fault@0",
    "fill thread mask cold fault@0",
    "fill fork mask cold fault@0",
    "usr1=f:cold,mask suspend ppoll pselect epoll cold mask",
    "usr1=s:cold,fault@0 segv=i:cold,skip suspend",
    "usr1=:cold,fault@0 segv=i:cold,skip epoll mask",
    "sigblock mask cold sigblock unblock cold sigblock fault@0",
    "sigsetmask cold sigsetmask mask",
    "sigset mask cold sigset raise unset mask",
    "segv=i:skip sigset fault@0",
    "segv=i:skip action interrupt action fault@0",
    "attribute mask cold unblock mask block fault@0",
]
SENT = [
    "raise cold",
    "kill",
    "ignore raise kill cold fault@0",
    "segv=i:skip raise cold kill action mask",
    "segv=i:cold block raise pending mask cold unblock pending mask",
    "segv=i:cold block kill pending fork pending unblock",
    "block raise cold pending wait pending cold unblock",
    "block kill wait kill unblock cold",
    "segv=i:raise,pending,cold,mask,skip fault@0",
    "segv=d:raise raise",
    "segv=ir:cold,raise,raise,cold raise",
    "ignore block raise pending unblock cold",
    "default block raise cold unblock cold",
]
BEFORE = [
    # What was there before the library, and so before the pager.
    "late segv=ik:cold,jump stack=40000 load cold fault@0 stack fault@3 stack canary action",
    "late segv=ir:cold,skip load fault@0 action fault@0",
    "late segv=d:jump load action fault@3 fault@9",
    "late usr1=f:cold,mask,fault@0 load tell",
    "late usr1=s:cold,mask,unblock,fault@0 segv=i:cold,skip load tell suspend",
    "late fill load mask cold fault@0",
    "late block load mask cold unblock mask fault@0",
    "late ignore load action raise cold fault@0",
]
REAL_FAULTS = [
    "fault@0",
    "cold fault@70",
    "write",
    "segv=i:cold,jump write cold write",
    "ignore cold fault@0",
    "block fault@0",
]
STACKS = [
    "stack stack=8192 stack cold stack=0 stack",
    "stack=2047 stack stack=3000 stack=4000 stack",
    "segv=ik:cold,stack,stack=3000,stack=0,stack,jump stack=40000 fault@0 stack fault@4 stack canary",
    "usr1=k:cold,stack,stack=3000,cold stack=40000 tell stack canary tell",
    "segv=i:cold,stack,jump stack=40000 fault@0 canary fault@4",
    "segv=ik:cold,jump stack=40000 thread stack fault@1 stack=50000 fault@2 stack canary",
    "segv=ik:cold,jump stack=40000 fork stack fault@1 stack=50000 fault@2 stack canary",
    "crowd cold",
    # A used-up stack is reported on the alternate one, and nowhere without it.
    "segv=ik:cold,jump stack=16384 overflow cold overflow fault@3",
    "segv=ik:cold,jump stack=8192 thread stack=16384 overflow overflow",
    "segv=ik:jump thread overflow",
    "segv=i:jump stack=16384 overflow",
    "overflow",
    "segv=ik:cold,jump stack=40000 stack=70000 fault@1 stack stack=30000 fault@2 stack",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a script with a tree's library."""
    program = tmp_path_factory.mktemp("script") / "signal_script"
    subprocess.run(["gcc", "-O1", "-w", "-pthread", "-o", program, SOURCE, "-ldl"], check=True)

    def call(tree: Tree, script: str) -> Outcome:
        done = subprocess.run(
            [program, tree.root / PLAIN, script], capture_output=True, text=True, timeout=60, check=False
        )
        assert len(done.stdout) < LONGEST_OUTPUT
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.mark.parametrize("script", [*LEAVING, *NESTED, *MASKS, *SENT, *BEFORE, *REAL_FAULTS, *STACKS])
def test_a_script_ends_as_in_stock(run: Run, whole: Tree, split: Tree, script: str) -> None:
    """Handlers run, nest, are left and end the process as with the whole library, whatever cold code they touch."""
    assert run(split, script) == run(whole, script)


SIMPLE_STEPS = [
    "cold",
    "cold",
    "mask",
    "block",
    "unblock",
    "fill",
    "empty",
    "raise",
    "action",
    "default",
    "ignore",
    "pending",
]
HANDLER_STEPS = [*SIMPLE_STEPS, "jump", "jump", "skip", "fault@1", "fault@4", "bare@2", "segv", "tell", "write"]
MAIN_STEPS = [*SIMPLE_STEPS, "fault@0", "fault@5", "fault@50", "bare@3", "bare@30", "tell", "hold", "release", "write"]
MAIN_STEPS += ["suspend", "ppoll", "pselect", "epoll", "stack", "stack=131072", "stack=0"]

handlers = st.tuples(
    st.sampled_from(["segv", "usr1"]),
    st.sets(st.sampled_from("idkrfs"), max_size=3).map(lambda flags: "".join(sorted(flags))),
    st.lists(st.sampled_from(HANDLER_STEPS), max_size=5).map(",".join),
).map(lambda parts: "{}={}:{}".format(*parts))
scripts = st.lists(handlers | st.sampled_from(MAIN_STEPS), min_size=2, max_size=12).map(" ".join)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=handlers, script=scripts, where=st.sampled_from(["", "thread ", "masked ", "fork "]))
def test_any_script_ends_as_in_stock(run: Run, whole: Tree, split: Tree, first: str, script: str, where: str) -> None:
    """Whatever handlers, faults, jumps and masks follow each other, on whatever thread, the process sees no difference."""
    script = f"{first} {where}{script}"
    assert run(split, script) == run(whole, script)


@pytest.mark.parametrize("size", [2048, 3072, 4096, 5120, 6144, 8192, 16384, 65535, 65536])
@pytest.mark.parametrize(
    "script", ["stack={} cold canary", "usr1=k:cold stack={} tell canary", "segv=ik:cold,jump stack={} fault@0 canary"]
)
def test_small_alternate_stacks(run: Run, whole: Tree, split: Tree, script: str, size: int) -> None:
    """On an alternate stack of any size cold code comes back, and nothing is written outside of the stack.

    The whole library may do worse: where the kernel's frame does not fit no handler can run, and a handler may need more.
    """
    code, output = run(split, script.format(size))
    assert (code, output.splitlines()[-2:]) == (0, ["canary: 0 bytes written", "end"])
    stock_code, stock_output = run(whole, script.format(size))
    if stock_code == 0 and "canary: 0 bytes written" in stock_output:
        assert output == stock_output
