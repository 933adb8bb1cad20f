"""Held modules run at the first touch, all of them, in stock order, each in its own object; and not before."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from layer_kit.children import printed, write_modules

ROOT = Path(__file__).resolve().parents[3]

# A package with a circle (b and c), a package below it, and a module that takes names from held ones.
MODULES = {
    "torch/__init__.py": (
        "ORDER.append('torch')\nimport logging\nimport torch._C, torch._ops\n"
        "import torch.a\nimport torch.b\nfrom torch.deep import inner\nimport torch.same, torch.pack, torch.apart\n"
        "import torch.user"
    ),
    # Fills a module inside the extension module, or makes it, as PyImport_AddModule does.
    "torch/a.py": (
        "ORDER.append('a')\nimport sys, types\nimport torch._C, torch.lone\n"
        "made = sys.modules.setdefault('torch._C.made', types.ModuleType('torch._C.made'))\n"
        "made.thing = 'made'\nmade.seen = [hasattr(made, '__module__')]\n"
        "torch._C.made = made\nvalue = 1\ndef answer():\n    return 42"
    ),
    # Only a held module imports it.
    "torch/lone.py": "ORDER.append('lone')\nvalue = 'lone'\ndef kept():\n    return 'own'",
    "torch/b.py": "ORDER.append('b')\nfrom torch.c import late\ndef early():\n    return 'b' + late()",
    "torch/c.py": "ORDER.append('c')\nimport torch.b\ndef late():\n    return 'c'",
    "torch/deep/__init__.py": "ORDER.append('deep')\nfrom torch.deep.other import thing",
    "torch/deep/inner.py": "ORDER.append('inner')\nfrom torch.deep import thing\nvalue = thing",
    "torch/deep/other.py": "ORDER.append('other')\nthing = 'thing'",
    # Functions that have the names of their modules, in a package that runs and in one that is held.
    "torch/same/__init__.py": "_torch_layer.defer_names(__name__, 'torch.same.twin', 'twin')",
    "torch/same/twin.py": "ORDER.append('twin')\ndef twin():\n    return 'twin'",
    "torch/pack/__init__.py": "ORDER.append('pack')\nfrom torch.pack.pair import pair\nfrom torch.pack import gone\ndel gone",
    "torch/pack/pair.py": "ORDER.append('pair')\ndef pair():\n    return 'pair'",
    "torch/pack/gone.py": "ORDER.append('gone')",
    # A package and a module of it that run by themselves, in a circle; a function takes a name from a held module.
    "torch/apart/__init__.py": (
        "ORDER.append('apart')\nimport torch.apart.half\nfrom torch.apart.half import number\n"
        "class Kind: pass\n"
        "_torch_layer.defer_names(__name__, 'torch.b', 'early')\n"
        "def use():\n    return (early if _torch_layer.ready else _torch_layer.resolve(__name__, 'early'))()"
    ),
    "torch/apart/half.py": (
        "ORDER.append('half')\nimport torch.apart\nfailing = vars(torch).get('failing')\n"
        "if failing: raise ValueError(failing)\nnumber = 3\ndef back(): return torch.apart.number"
    ),
    "torch/user.py": (
        "ORDER.append('user')\n_torch_layer.defer_names(__name__, 'torch.b', 'early')\n"
        "def use():\n    return (early if _torch_layer.ready else _torch_layer.resolve(__name__, 'early'))()\n"
        "def _torch_layer_deferred():\n    global number\n    ORDER.append('later')\n    number = 5\n"
        "_torch_layer.defer_statement(__name__, _torch_layer_deferred, 'number')\ndel _torch_layer_deferred\n"
        "def count():\n    return number if _torch_layer.ready else _torch_layer.resolve(__name__, 'number')"
    ),
    "torch/_C.py": (
        "class _Library:\n    def impl(self, *arguments): pass\ndef _dispatch_library(*arguments): return _Library()\n"
        "def _dispatch_has_kernel_for_dispatch_key(*arguments): return True"
    ),
    "torch/_ops.py": "\n".join(
        f"class {name}:\n    def __getattr__(self, name): raise AttributeError(name)"
        for name in ("_OpNamespace", "_HigherOrderNamespace")
    ),
}
HELD = (
    *("torch.a", "torch.lone", "torch.b", "torch.c", "torch.deep", "torch.deep.other", "torch.deep.inner"),
    *("torch.same.twin", "torch.pack", "torch.pack.pair", "torch.pack.gone"),
    *("torch.apart", "torch.apart.half"),
)
PRELUDE = """
import builtins, importlib, json, os, sys, threading
from importlib.machinery import PathFinder
builtins.ORDER = []
from torch_layer.imports import Imports
from torch_layer.plan import Plan
plan = Plan(
    root="torch",
    held={held!r},
    deferred_names={{
        "torch.user": {{"early": ("torch.b", "early")}},
        "torch.same": {{"twin": ("torch.same.twin", "twin")}},
        "torch.apart": {{"early": ("torch.b", "early")}},
    }},
    deferred_statements={{"torch.user": ("number",)}},
    eager_code="def kept():\\n    return 'copy'",
    copied_functions=(("torch.lone", "kept"),),
    native=("torch._C.made",),
    submodules={{"torch": ("a", "b", "c", "lone")}},
    rebound=("torch.same.twin", "torch.pack.pair", "torch.pack.gone"),
    constants={{"torch.a": {{"version": "7"}}}},
    separable=("torch.apart", "torch.apart.half"),
)
imports = Imports(plan, eager={eager})
class Finder:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] != "torch":
            return None
        spec = PathFinder.find_spec(name, path, target)
        return spec and imports.prepare(spec)
sys.meta_path.insert(0, Finder())
import torch
"""
STOCK = [
    *("torch", "a", "lone", "b", "c", "deep", "other", "inner", "twin", "pack", "pair", "gone", "apart", "half"),
    *("user", "later"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package."""
    folder = tmp_path_factory.mktemp("held")
    write_modules(folder, MODULES)
    return folder


def result(tree: Path, program: str, eager: bool = False) -> Any:
    """What the program prints as JSON on its last line, in a process where the package was imported."""
    text = PRELUDE.format(held=HELD, eager=eager) + dedent(program)
    return printed(text, tree)


@pytest.mark.parametrize(
    "program",
    [
        "",
        "import torch.a",
        "import torch.a as a; a.__name__, a.__spec__, a.__file__, repr(a)",
        "from torch import a, b",
        "from torch.deep import inner",
        "import torch.deep.inner",
        "torch.deep.inner",
        "torch.user.use, torch.user.count",
        "import torch._C.made",
        "from torch._C import made; torch._C.made is made, made.__name__, repr(made)",
        "assert torch.a.version == '7'",
        "import torch.same.twin, torch.pack.pair",
        "dir(torch.user), dir(torch.same)",
        "torch.lone",
        "assert 'lone' in dir(torch)",
        "assert torch.lone.kept() == 'copy'",
        "from torch.lone import kept; assert kept() == 'copy'",
    ],
)
def test_importing_is_not_using(tree: Path, program: str) -> None:
    """A held module that is only imported or named does not run."""
    assert result(tree, f"{program}\nprint(json.dumps(ORDER))") == ["torch", "user"]


def test_a_copied_function_makes_room_for_the_real_one(tree: Path) -> None:
    """A copy answers though nothing but held modules imports its module; after the touch the module's own function does."""
    program = "from torch.lone import kept\nbefore = kept()\ntorch.a.value\n"
    program += "print(json.dumps([before, kept(), torch.lone.kept()]))"
    assert result(tree, program) == ["copy", "own", "own"]


@pytest.mark.parametrize(
    "touch",
    [
        "torch.a.value",
        "torch.b.early()",
        "from torch.a import value",
        "from torch.a import *",
        "torch.user.use()",
        "from torch.user import early",
        "dir(torch.a)",
        "vars(torch.a)",
        "torch.a.value = 5",
        "del torch.a.value",
        "hasattr(torch.a, 'nothing')",
        "torch.deep.inner.value",
        "torch.deep.thing",
        "from torch.deep.inner import value",
        "imports.completion.complete()",
        "torch.a.__doc__",
        "torch.lone.value",
        "torch.same.twin()",
        "from torch.same import twin; twin()",
        "torch.pack.pair()",
        "import torch.pack.pair; torch.pack.pair()",
        "from torch.pack import pair; pair()",
        "hasattr(torch.pack, 'gone')",
        "torch._C.made.thing",
        "from torch._C.made import thing",
        "import importlib.util, inspect; inspect.getmembers(torch.b)",
    ],
)
def test_a_touch_runs_everything_in_stock_order(tree: Path, touch: str) -> None:
    """Whatever touches a held module first, all of them run, in the order in which the stock package runs them, once."""
    held, eager = (result(tree, f"{touch}\nprint(json.dumps(ORDER))", eager=each) for each in (False, True))
    assert eager == STOCK
    assert held == ["torch", "user", *STOCK[1:-2], "later"]


@pytest.mark.parametrize(
    ("touch", "order"),
    [
        ("torch.apart.number", ["apart", "half"]),
        ("from torch.apart import use", ["apart", "half"]),
        ("dir(torch.apart)", ["apart", "half"]),
        ("torch.apart.added = 5", ["apart", "half"]),
        ("torch.apart.half.number", ["half"]),
        ("from torch.apart.half import number", ["half"]),
        ("hasattr(torch.apart.half, 'nothing')", ["half"]),
        ("torch.apart.half.back()", ["half", "apart"]),
        ("import torch.apart.half", []),
        ("torch.apart.half", []),
        ("torch.apart.number; torch.apart.number; torch.apart.half.back()", ["apart", "half"]),
    ],
)
def test_a_separable_module_runs_by_itself(tree: Path, touch: str, order: list[str]) -> None:
    """A touch of a separable module runs it, and the separable ones that its body uses; all others wait, and run once later."""
    program = f"""
    {touch}
    first = list(ORDER)
    waits = not imports.completion.stats().complete
    kinds = sorted({{type(sys.modules["torch." + {{"half": "apart.half"}}.get(name, name)]).__name__ for name in first[2:]}})
    imports.completion.complete()
    print(json.dumps([first, waits, kinds, sorted(ORDER)]))
    """
    kinds = ["module"] if order else []
    assert result(tree, program) == [["torch", "user", *order], True, kinds, sorted(STOCK)]


def test_a_separable_module_completes_the_import_where_it_needs_the_rest(tree: Path) -> None:
    """A function of a separable module that uses a name of a held one completes the import, and has the stock value."""
    program = """
    torch.apart.number
    used = torch.apart.use()
    print(json.dumps([used, imports.completion.stats().reason, sorted(ORDER), "early" in vars(torch.apart)]))
    """
    assert result(tree, program) == ["bc", "torch.b.early", sorted(STOCK), True]


def test_a_class_of_a_separable_module_has_instances_once_it_ran(tree: Path) -> None:
    """The question for a class is answered without it before its module ran, and by the class itself afterwards."""
    program = """
    asked = imports.class_if_made, imports.class_if_run
    before = [ask("torch.apart", "Kind") for ask in asked]
    kind = torch.apart.Kind
    after = [ask("torch.apart", "Kind") is kind for ask in asked]
    print(json.dumps([before, after, imports.class_if_run("torch.none", "Kind"), imports.completion.stats().complete]))
    """
    assert result(tree, program) == [[[], []], [True, True], [], False]


def test_threads_that_touch_a_separable_module_see_it_complete(tree: Path) -> None:
    """Eight threads that touch separable modules at once all get right answers; each module runs once, and nothing else."""
    program = """
    apart = torch.apart
    uses = [lambda: apart.number, lambda: apart.half.number, lambda: apart.half.back(), lambda: apart.Kind.__name__] * 2
    barrier, found = threading.Barrier(8), [None] * 8
    def work(number):
        barrier.wait()
        found[number] = uses[number]()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [each.start() for each in threads]; [each.join(30) for each in threads]
    print(json.dumps([found, sorted(ORDER), imports.completion.stats().complete]))
    """
    assert result(tree, program) == [[3, 3, 3, "Kind"] * 2, ["apart", "half", "torch", "user"], False]


def test_a_separable_module_that_fails_is_tried_again(tree: Path) -> None:
    """An error of a separable module reaches whoever touched it, and the next touch runs the module again."""
    program = """
    torch.failing = "not yet"
    try:
        torch.apart.number
        message = ""
    except ValueError as error:
        message = str(error)
    del torch.failing
    print(json.dumps([message, torch.apart.number, torch.apart.half.back(), imports.completion.stats().complete]))
    """
    assert result(tree, program) == ["not yet", 3, 3, False]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("first", ["", "import torch.same.twin, torch.pack.pair", "torch.a.value"])
def test_a_function_with_the_name_of_its_module_is_the_function(tree: Path, first: str, eager: bool) -> None:
    """An attribute of a package is what the package binds, and not the submodule of this name, before and after completion."""
    program = f"""
    {first}
    found = [torch.same.twin(), torch.pack.pair(), hasattr(torch.pack, "gone")]
    imports.completion.complete()
    modules = [sys.modules["torch.same.twin"].twin(), sys.modules["torch.pack.pair"].pair()]
    print(json.dumps([found, modules, torch.same.twin(), torch.pack.pair(), hasattr(torch.pack, "gone")]))
    """
    expected = [["twin", "pair", False], ["twin", "pair"], "twin", "pair", False]
    assert result(tree, program, eager) == expected


def test_names_that_wait_are_listed(tree: Path) -> None:
    """`dir` of a module that runs has its names that wait, and afterwards what stock has."""
    program = """
    import types
    before = [dir(torch.user), dir(torch.same)]
    imports.completion.complete()
    print(json.dumps([before, [dir(torch.user), dir(torch.same)]]))
    """
    before, after = result(tree, program)
    assert before == after
    assert result(tree, program, eager=True) == [after, after]


def test_code_that_fills_a_module_does_not_meet_the_layers_class(tree: Path) -> None:
    """C code takes a module's `__module__`, if it has one, for the name of the classes in it; stock's modules have none."""
    program = """
    found = [hasattr(types, "__module__") for types in (torch, torch.a, torch._C.made)]
    torch.c.__dict__
    print(json.dumps([found, list(torch._C.made.seen)]))
    """
    assert result(tree, program) == [[False, False, False], [False]]


@pytest.mark.parametrize("ask", ["torch.user.count()", "torch.user.number", "from torch.user import number"])
def test_a_statement_that_waits_runs_when_it_is_asked_for(tree: Path, ask: str) -> None:
    """The first use of a name that it binds runs a statement that waits, once, and nothing else."""
    program = f"{ask}\ntorch.user.count()\nprint(json.dumps([ORDER, torch.user.number]))"
    assert result(tree, program) == [["torch", "user", "later"], 5]


@pytest.mark.parametrize("touch", ["", "torch.a.value"])
def test_a_name_that_was_set_stays_set(tree: Path, touch: str) -> None:
    """What a program sets in the place of a name that waits is what the module uses, also when everything has run."""
    program = f"torch.user.number = 8\n{touch}\nprint(json.dumps([torch.user.count(), torch.user.number]))"
    assert result(tree, program) == [8, 8]


def test_a_statement_that_fails_is_tried_again(tree: Path) -> None:
    """An error of a statement that waits reaches who asked, and the next one runs it again."""
    program = """
    real = builtins.ORDER
    builtins.ORDER = None
    try:
        torch.user.count()
        message = ""
    except AttributeError as error:
        message = str(error)
    builtins.ORDER = real
    print(json.dumps([message, torch.user.count()]))
    """
    assert result(tree, program) == ["'NoneType' object has no attribute 'append'", 5]


def test_afterwards_nothing_is_special(tree: Path) -> None:
    """Completed modules are plain modules, the very objects that were there before, with plain specs and loaders."""
    program = """
    before = [sys.modules[name] for name in ("torch.a", "torch.b", "torch.deep")]
    torch.a.value
    after = [sys.modules[name] for name in ("torch.a", "torch.b", "torch.deep")]
    kinds = {type(sys.modules[name]).__name__ for name in plan.held}
    specs = {type(sys.modules[name].__spec__).__name__ for name in plan.held}
    loaders = {type(sys.modules[name].__loader__).__name__ for name in plan.held}
    same = all(x is y for x, y in zip(before, after))
    made = torch._C.made
    native = [type(made).__name__, made.__spec__, made.thing, sys.modules["torch._C.made"] is made]
    special = [name for name in vars(torch.user) if name == "__getattr__" or name.endswith("deferred")]
    print(json.dumps([same, sorted(kinds), sorted(specs), sorted(loaders), torch.user.use(), special, native]))
    """
    native = ["module", None, "made", True]
    assert result(tree, program) == [True, ["module"], ["ModuleSpec"], ["SourceFileLoader"], "bc", [], native]


def test_importing_leaves_nothing_for_the_collector(tree: Path) -> None:
    """What `import torch` makes is not looked through for garbage afterwards; a program's frozen objects stay frozen."""
    program = """
    import gc
    young = gc.get_count()[0]
    frozen = gc.get_freeze_count()
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        del sys.modules[name]
    gc.freeze()
    import torch
    # CPython 3.12 has frozen objects from the start.
    print(json.dumps([young < 100 or frozen > 0, gc.get_freeze_count() > 0, gc.isenabled()]))
    """
    assert result(tree, program) == [True, True, True]


def test_the_collector_rests_while_the_import_completes(tree: Path) -> None:
    """Held modules run without a search for garbage, and afterwards the collector is as the program had it."""
    program = """
    import gc
    searches, states = [], []
    gc.callbacks.append(lambda phase, _info: searches.append(phase) if imports.completion.is_completing() else None)
    gc.set_threshold(1)
    imports.completion.steps.insert(0, lambda: states.append([gc.isenabled(), len([[] for _ in range(1000)])]))
    torch.a.value
    print(json.dumps([searches, states, gc.isenabled()]))
    """
    assert result(tree, program) == [[], [[False, 1000]], True]


def test_threads_that_touch_at_once_see_complete_modules(tree: Path) -> None:
    """Eight threads that touch different modules at the same time all get right answers, and each module runs once."""
    program = """
    uses = [lambda: torch.a.value, lambda: torch.b.early(), lambda: torch.user.use(), lambda: torch.deep.inner.value] * 2
    barrier, found = threading.Barrier(8), [None] * 8
    def work(number):
        barrier.wait()
        found[number] = uses[number]()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [each.start() for each in threads]; [each.join(30) for each in threads]
    print(json.dumps([found, sorted(ORDER)]))
    """
    assert result(tree, program) == [[1, "bc", "bc", "thing"] * 2, sorted(STOCK)]


def test_a_child_completes_by_itself(tree: Path) -> None:
    """A process that was forked before the first touch runs the modules itself."""
    program = """
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps([torch.b.early(), imports.completion.stats().complete]).encode())
        os._exit(0)
    os.wait()
    print(json.dumps([json.loads(os.read(reading, 1000)), imports.completion.stats().complete]))
    """
    assert result(tree, program) == [["bc", True], False]


FORK = """
    import logging, time
    begun = threading.Event()
    class Order(list):
        def append(self, name):
            super().append(name)
            if name == "c":
                begun.set()
                time.sleep(0.5)
                logging.getLogger("of.a.module")  # takes a lock that a fork takes too
    builtins.ORDER = Order(builtins.ORDER)
    def child(*uses):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                os.write(writing, json.dumps([[use() for use in uses], imports.completion.ready]).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            import select
            if not select.select([pipe], [], [], 20)[0]:
                os.kill(process, 9)
                return "hangs"
            text = pipe.read().decode()
        os.waitpid(process, 0)
        return json.loads(text)
    """


@pytest.mark.parametrize("touch", ["torch.b.early()", "torch.user.use()", "imports.completion.complete()"])
def test_a_fork_while_another_thread_completes(tree: Path, touch: str) -> None:
    """A child that was forked in the middle of completing has all modules, and so has its parent; each ran once in the parent."""
    program = f"""{FORK}
    thread = threading.Thread(target=lambda: {touch})
    thread.start()
    begun.wait()
    forked = child(lambda: torch.b.early(), lambda: torch.user.use(), lambda: torch.deep.inner.value)
    thread.join()
    print(json.dumps([forked, torch.b.early(), torch.user.use(), sorted(ORDER)]))
    """
    assert result(tree, program) == [[["bc", "bc", "thing"], True], "bc", "bc", sorted(STOCK)]


def test_children_of_many_threads(tree: Path) -> None:
    """Four threads fork while a fifth completes the import, and every child has all modules."""
    program = f"""{FORK}
    thread = threading.Thread(target=lambda: torch.b.early())
    thread.start()
    begun.wait()
    found = [None] * 4
    def fork(number):
        found[number] = child(lambda: torch.user.use())
    forking = [threading.Thread(target=fork, args=(number,)) for number in range(4)]
    [each.start() for each in forking]; [each.join(30) for each in forking]
    thread.join()
    print(json.dumps(found))
    """
    assert result(tree, program) == [[["bc"], True]] * 4


def test_a_module_may_fork_while_it_runs(tree: Path) -> None:
    """The thread that completes the import can fork itself: the child goes on with it."""
    program = """
    class Order(list):
        def append(self, name):
            super().append(name)
            if name == "c":
                self.child = os.fork()
    builtins.ORDER = Order(builtins.ORDER)
    found = [torch.b.early(), imports.completion.ready]
    if not ORDER.child:
        os._exit(0 if found == ["bc", True] else 1)
    print(json.dumps([found, os.waitpid(ORDER.child, 0)[1]]))
    """
    assert result(tree, program) == [["bc", True], 0]


def test_a_module_that_fails_is_named_and_tried_again(tree: Path) -> None:
    """An error while the rest runs says what needed it and what to do; the next touch tries again, and goes on from there."""
    program = """
    real, failing = builtins.ORDER, [True]
    class Order(list):
        def append(self, name):
            if name == "c" and failing:
                raise OSError("no memory")
            super().append(name)
    builtins.ORDER = Order(real)
    try:
        torch.a.value
        message = ""
    except ImportError as error:
        message = str(error)
    failing.clear()
    print(json.dumps([message, torch.b.early(), torch.user.use(), imports.completion.stats().complete]))
    """
    message, *rest = result(tree, program)
    assert "which torch.a.value needs: OSError: no memory" in message
    assert "Next: TORCH_LAYER_IMPORTS=eager" in message
    assert rest == ["bc", "bc", True]


def test_what_completed_the_import_is_told(tree: Path) -> None:
    """The stats name the first touch and its cost."""
    held, complete, reason, microseconds = result(
        tree, "torch.deep.thing\nprint(json.dumps(imports.completion.stats()))"
    )
    assert (held, complete, reason) == (len(HELD), True, "torch.deep.thing")
    assert microseconds > 0


@pytest.mark.parametrize(
    ("value", "outcome"), [("", "False"), ("held", "False"), ("eager", "True"), ("off", "Next: unset")]
)
def test_the_variable_is_checked(value: str, outcome: str) -> None:
    """Only the two documented values are taken."""
    program = "from torch_layer.completion import is_eager; print(is_eager())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(ROOT / "layers" / "torch"),
            "TORCH_LAYER_IMPORTS": value,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout + done.stderr
