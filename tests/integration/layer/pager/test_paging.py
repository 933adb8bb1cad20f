"""Cold code comes back: when, how much of it, and in which circumstances."""

import shutil
import signal
from pathlib import Path
from textwrap import dedent

import pytest

from builder.native.compile_pager import PAGER_NAME
from builder.native.split import LibraryPlan
from paging.kit import (
    BLOCK_BYTES,
    FUNCTIONS,
    LAYOUTS,
    PLAIN,
    THROWING,
    USE_BOTH,
    Tree,
    compile_library,
    compiled_pager,
    plain_source,
)


def test_cold_code_computes_what_it_did(split: Tree, expected: list[int]) -> None:
    """Every function of a library whose code is all cold returns what it returns unsplit."""
    assert split.result(USE_BOTH + "print(json.dumps(call_all(plain)))") == expected


def test_nothing_comes_before_it_is_touched(split: Tree) -> None:
    """Loading brings in what static initialisers touch and no more; a first call brings its block, a second call none."""
    program = """
    plain = load("package/lib/libplain.so")
    initialised = ctypes.c_uint64.in_dll(plain, "initialised").value
    steps = [pager.stats()]
    for number in (3, 3, 150):
        plain.call(number, 1)
        steps.append(pager.stats())
    print(json.dumps([initialised != 0, [step.faults for step in steps], steps[-1]._asdict()]))
    """
    initialised, faults, last = split.result(dedent(program))
    assert initialised
    assert 1 <= faults[0] < FUNCTIONS / 4
    assert faults[1] > faults[0]
    assert faults[1] == faults[2] < faults[3]
    assert last["libraries"] == 1
    assert last["blocks"] == last["faults"]
    # The library's code is one cold run of some 480 kB, for which `FAR_RUNS` has blocks of twice the size.
    assert last["bytes"] <= last["blocks"] * BLOCK_BYTES * 2
    assert last["microseconds"] > 0


def test_untouched_code_uses_no_memory(split: Tree) -> None:
    """The resident memory of the library's inaccessible pages is zero, and a call makes a part of them accessible."""
    program = """
    plain = load("package/lib/libplain.so")
    def inaccessible():
        total = resident = 0
        inside = False
        for line in open("/proc/self/smaps"):
            if "-" in line.split()[0] and ":" not in line.split()[0]:
                low, high = (int(part, 16) for part in line.split()[0].split("-"))
                inside = line.split()[1] == "---p" and low <= address < high + (1 << 22)
                total += (high - low) * inside
            elif inside and line.startswith("Rss:"):
                resident += int(line.split()[1])
        return total, resident
    address = ctypes.cast(plain.f3, ctypes.c_void_p).value
    before = inaccessible()
    call_all(plain)
    print(json.dumps([before, inaccessible()]))
    """
    (total, resident), (left, _) = split.result(dedent(program))
    assert total > 200_000
    assert resident == 0
    assert left < total


def test_trimming_loses_nothing(whole: Tree, tmp_path: Path, expected: list[int]) -> None:
    """Pages that are given back come again; cold code that had come back stays, and so do relocated and written data."""
    tree = whole.copy(tmp_path / "tree")
    tree.split({PLAIN: LibraryPlan(frozenset(range(40, 4096))), THROWING: LibraryPlan()})
    program = f"""
    import ctypes, re
    plain = load({PLAIN!r})
    written = ctypes.c_uint64.in_dll(plain, "initialised")
    first, initial, written.value = call_all(plain), written.value, 1234
    def mapped():
        text = open("/proc/self/smaps").read()
        sizes = re.findall(r"^[0-9a-f]+-[0-9a-f]+ r-xp [^\\n]*/{PLAIN}\\n(?:[A-Z]\\w+: .*\\n)*?Rss: +(\\d+)", text, re.MULTILINE)
        return sum(map(int, sizes))
    before, there = pager.stats(), mapped()
    pager.trim()
    left = mapped()
    again = call_all(plain)
    print(json.dumps([first, again, initial, written.value, pager.stats().blocks - before.blocks, there, left]))
    """
    first, again, initial, written, more, there, left = tree.result(dedent(program))
    assert first == again == expected
    assert initial != 0
    assert written == 1234
    assert more == 0
    assert left < there / 2


def test_exceptions_pass_cold_frames(split: Tree) -> None:
    """A C++ exception unwinds through frames whose code, unwind and exception tables are all cold, cleaning up in each."""
    assert split.result(USE_BOTH + "print(json.dumps([throwing.attempt(1), throwing.attempt(1)]))") == [-11, -11]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_segment_layouts(layout: str, tmp_path: Path, expected: list[int]) -> None:
    """A library splits whether its linker put code and read-only data into one segment or into several."""
    tree = Tree(tmp_path / "tree")
    compile_library(plain_source(), tree.root / PLAIN, *LAYOUTS[layout], "-Wl,-z,now,-z,relro")
    tree.split({PLAIN: LibraryPlan()})
    assert tree.result(f"print(json.dumps(call_all(load({PLAIN!r}))))") == expected


def test_resolvers_run_before_the_pager(tmp_path: Path) -> None:
    """A library whose functions are chosen by IFUNC resolvers loads, though the loader calls these before the pager is there."""
    helper = "static __attribute__((noinline)) int helper(void) { return getpid() < 0; }\n"
    resolver = """
    static int chosen(void) { return 41; }
    static int (*resolve(void))(void) { return helper() ? 0 : chosen; }
    int picked(void) __attribute__((ifunc("resolve")));
    int use(void) { return picked() + 1; }
    """
    source = "#include <unistd.h>\n" + helper + plain_source() + resolver
    tree = Tree(tmp_path / "tree")
    compile_library(source, tree.root / PLAIN, "-Wl,-z,now")
    tree.split({PLAIN: LibraryPlan()})
    assert tree.result(f"print(load({PLAIN!r}).use())") == 42


def test_threads_touch_the_same_code_at_once(split: Tree, expected: list[int]) -> None:
    """Eight threads that run into the same cold code together all get right results, and no block comes twice."""
    program = """
    start, results = threading.Barrier(8), [None] * 8
    def work(place):
        start.wait()
        results[place] = call_all(plain)
    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps([results, pager.stats()._asdict()]))
    """
    for _ in range(10):
        results, stats = split.result(USE_BOTH + dedent(program))
        assert results == [expected] * 8
        assert stats["bytes"] <= 1 << 22


@pytest.fixture
def without_workspaces(split: Tree, tmp_path: Path) -> Tree:
    """A split tree whose pager sets no workspaces aside, so that it is always as if all were in use."""
    tree = split.copy(tmp_path / "tree")
    shutil.copy(compiled_pager(flags="-O2 -DWORKSPACES=0") / PAGER_NAME, tree.side_file.parent)
    return tree


def test_no_workspace_is_free(without_workspaces: Tree, expected: list[int]) -> None:
    """A thread that finds no free workspace maps fresh memory, and goes on; a real fault still ends the process."""
    program = """
    start, results = threading.Barrier(8), [None] * 8
    def work(place):
        start.wait()
        results[place] = call_all(plain)
    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps([results, throwing.attempt(1), pager.stats().faults > 20]))
    """
    assert without_workspaces.result(USE_BOTH + dedent(program)) == [[expected] * 8, -11, True]
    crashed = without_workspaces.run(USE_BOTH + "ctypes.c_int.from_address(16).value")
    assert crashed.returncode == -signal.SIGSEGV


def test_no_workspace_and_no_memory(without_workspaces: Tree) -> None:
    """When memory for a workspace cannot be had, the process ends with a message that says so."""
    program = """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
    plain.call(150, 1)
    """
    done = without_workspaces.run(USE_BOTH + dedent(program))
    assert done.returncode == -signal.SIGABRT
    assert "torch layer: no memory to bring cold code back.\nNext: give the function more memory." in done.stderr


def test_fork_while_threads_page(split: Tree, expected: list[int]) -> None:
    """Children that are forked while other threads are bringing blocks in can touch everything themselves."""
    program = """
    def work():
        call_all(plain)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            os._exit(0 if call_all(plain) == json.loads(os.environ["EXPECTED"]) else 1)
        children.append(child)
    for thread in threads: thread.join()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
    """
    for _ in range(5):
        assert split.result(USE_BOTH + dedent(program), EXPECTED=str(expected)) == [0] * 6


def test_a_process_that_becomes_another_program(split: Tree, expected: list[int]) -> None:
    """After exec, in a child of a process that had paged, the library works from scratch."""
    program = """
    call_all(plain)
    if "AGAIN" not in os.environ:
        os.environ["AGAIN"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    print(json.dumps(call_all(plain)))
    """
    assert split.result(USE_BOTH + dedent(program)) == expected


def test_a_freeze_in_the_middle(split: Tree, expected: list[int]) -> None:
    """A process that is stopped and goes on later, again and again while it pages, notices nothing."""
    program = """
    child = os.fork()
    if child == 0:
        os._exit(0 if all(call_all(plain) == json.loads(os.environ["EXPECTED"]) for _ in range(3)) else 1)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        os.kill(child, signal.SIGSTOP)
        os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        os.kill(child, signal.SIGCONT)
        time.sleep(0.001)
        status = os.waitpid(child, os.WNOHANG)
        if status != (0, 0):
            break
    print(json.dumps(os.waitstatus_to_exitcode(status[1])))
    """
    assert split.result(USE_BOTH + dedent(program), EXPECTED=str(expected)) == 0


def test_everything_at_once(split: Tree, expected: list[int]) -> None:
    """`load_all` brings in what is left, after which no call faults any more."""
    program = """
    loaded = pager.load_all()
    results = call_all(plain)
    print(json.dumps([results, throwing.attempt(1), loaded._asdict(), pager.stats()._asdict()]))
    """
    results, thrown, loaded, after = split.result(USE_BOTH + dedent(program))
    assert (results, thrown) == (expected, -11)
    assert loaded["blocks"] > loaded["faults"]
    assert after == loaded


def test_eager_mode(split: Tree, expected: list[int]) -> None:
    """With TORCH_LAYER_PAGER=eager everything is there when the library is loaded, and nothing faults."""
    results, stats = split.result(
        USE_BOTH + "print(json.dumps([call_all(plain), pager.stats()._asdict()]))", TORCH_LAYER_PAGER="eager"
    )
    assert results == expected
    assert stats["faults"] == 0
    assert stats["blocks"] > 0


def test_hot_pages_do_not_fault(whole: Tree, split: Tree, tmp_path: Path, expected: list[int]) -> None:
    """Pages that a plan keeps are in the library itself: touching them needs no pager, and the side file is smaller."""
    tree = whole.copy(tmp_path / "tree")
    half = frozenset(range(40, 4096))
    tree.split({PLAIN: LibraryPlan(half), THROWING: LibraryPlan()})
    program = f"""
    plain = load({PLAIN!r})
    before = pager.stats().faults
    results = call_all(plain)
    print(json.dumps([results, pager.stats().faults - before]))
    """
    results, faults = tree.result(dedent(program))
    _, all_cold = split.result(dedent(program))
    assert results == expected
    assert faults < all_cold
    assert tree.side_file.stat().st_size < split.side_file.stat().st_size


def test_the_tree_can_be_moved(split: Tree, tmp_path: Path, expected: list[int]) -> None:
    """Nothing in a split tree names the folder that it was made in: a copy elsewhere works alone."""
    moved = split.copy(tmp_path / "elsewhere" / "opt")
    assert moved.result(USE_BOTH + "print(json.dumps(call_all(plain)))") == expected
    shutil.rmtree(moved.root)
