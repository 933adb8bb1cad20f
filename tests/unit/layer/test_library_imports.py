"""What added packages take from torch waits until it is used, and is then what it would be without the layer."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from layer_kit.children import printed, write_modules

MODULES = {
    "torch/__init__.py": (
        "ORDER.append('torch')\nimport torch._C, torch._ops, torch.held\n"
        "def __getattr__(name):\n"
        "    if name != 'notes': raise AttributeError(name)\n"
        "    import importlib\n    return importlib.import_module('torch.notes')"
    ),
    "torch/held.py": (
        "import sys\nORDER.append('held')\nvalue = 1\nWRAPPED = []\ndef wrap(name):\n    caller = sys._getframe(1)\n"
        "    assert caller.f_code.co_name == '<module>'\n"
        "    WRAPPED.append((caller.f_globals['__name__'], name if isinstance(name, str) else name.__name__))\n"
        "    return name"
    ),
    "torch/_C.py": (
        "class _Library:\n    def impl(self, *arguments): pass\ndef _dispatch_library(*arguments): return _Library()\n"
        "def _dispatch_has_kernel(name): return name == 'native::scale'\n"
        "def _dispatch_has_kernel_for_dispatch_key(*arguments): return True"
    ),
    "torch/_ops.py": (
        "class _OpNamespace:\n    name = 'lib'\n    __name__ = 'torch.ops.lib'\n"
        "    def __getattr__(self, name): raise AttributeError(name)\n"
        "class _HigherOrderNamespace:\n    def __getattr__(self, name): raise AttributeError(name)"
    ),
    # Modules that importing torch does not run. `pair` is a function and a module, as in stock torch.
    "torch/later/__init__.py": (
        "ORDER.append('later')\nif FAIL: raise ValueError('later')\nfrom torch.later.kinds import Kind\n"
        "from torch.later.pair import pair"
    ),
    "torch/later/kinds.py": "ORDER.append('kinds')\nfrom torch.held import value\nclass Kind: pass\nNUMBER = value + 1",
    "torch/later/pair.py": "ORDER.append('pair')\ndef pair(): return 'pair'",
    "torch/later/apart.py": "ORDER.append('apart')\nTHING = 'apart'",
    "torch/notes.py": (
        "ORDER.append('notes')\nNOTED = []\ndef note(function):\n    NOTED.append(function.__name__)\n    return function\n"
        "def disable(function=None, reason=''):\n"
        "    if function is None: return lambda given: disable(given, reason)\n"
        "    def made(*arguments): return ('made', function(*arguments))\n"
        "    made.__name__, made.__qualname__ = function.__name__, function.__qualname__\n    return made"
    ),
    "lib/__init__.py": "",
    "lib/registry.py": (
        "class Registry(dict):\n    def register(self, key, value): self[key] = value\nREGISTRY = Registry()\n"
        "DEFINED = []\ndef define(name): DEFINED.append(name)\ndef registered(name): DEFINED.append(name)"
    ),
    "lib/use.py": """
        import torch
        from lib.registry import REGISTRY
        from lib import registry
        is_there = True
        if is_there:
            from torch.later import Kind, pair
            from torch.later.kinds import NUMBER as number
            REGISTRY.register("kind", Kind)
            REGISTRY.register("pair", pair())
        else:
            Kind = int
        if not is_there:
            from torch.later.apart import THING
        from torch.held import value
        registry.define("lib::add")
        registry.define("native::scale")
        @torch.held.wrap
        def whole(): return 'whole'
        torch.held.wrap("add")
        def add(): return number + value
        def asks(thing): return isinstance(thing, (str, Kind))
        def asks_inside(thing):
            from torch.later import Kind as Inside
            return isinstance(thing, Inside)
        def typed(thing: int | Kind, other: int = 2) -> Kind: return thing
        def gone(): return THING
        def registers(name):
            registry.registered(name)
        registers("first")
        class Holder:
            @torch.notes.disable(reason="r")
            def method(self): return 'method'
            @torch.notes.note
            def noted(self): return 'noted'
    """,
    "lib/tells/exporting.py": (
        "ORDER.append('exporting')\nfrom torch.later.apart import THING\ndef tell(): ORDER.append('told ' + THING)"
    ),
    "lib/tells/__init__.py": "is_there = True\nfrom .exporting import tell\nif is_there:\n    tell()\ndef again(): tell()",
    "lib/again.py": "from lib.use import Kind\ndef kind(): return Kind",
}
PRELUDE = """
import ast, builtins, importlib, json, os, sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
builtins.ORDER, builtins.FAIL = [], False
from builder.python.deferred import libraries, library_rules
from builder.python.deferred.module_text import ModuleText
from torch_layer.imports import Imports
from torch_layer.library_imports import LibraryImports
from torch_layer.plan import Plan
library_rules.LIBRARY_CLASSES = (
    library_rules.ClassWithoutInstances("torch.later.kinds", "Kind", "r", taken_from=("torch.later",)),
)
library_rules.FILLED_OBJECTS = (library_rules.RegistryRule("lib.registry", "REGISTRY", "register", "r"),)
library_rules.OPERATOR_CALLS = frozenset(["registry.define"])
library_rules.LIBRARY_STATEMENTS = (
    library_rules.LibraryStatements(
        "lib.tells", ("from .exporting import tell", "if is_there:"), "torch.later.apart", "r"
    ),
)
libraries._BODY_NOTES = frozenset(["torch.held.wrap"])
libraries._PUT_OFF = {{("lib.use", "registers")}}
libraries._DECORATORS = {{
    "torch.notes.disable": library_rules.WaitingDecorator("torch.notes.disable", "torch.notes", True, "r"),
    "torch.notes.note": library_rules.WaitingDecorator("torch.notes.note", "torch.notes", False, "r"),
}}
files = {{name: Path({tree!r}, name.replace(".", "/")) for name in ("lib.use", "lib.again", "lib.tells")}}
texts = {{
    name: ModuleText(name, path.is_dir(), (path / "__init__.py" if path.is_dir() else Path(f"{{path}}.py")).read_bytes())
    for name, path in files.items()
}}
assert libraries.is_concerned(texts["lib.tells"]) and not libraries.is_concerned(texts["lib.again"])
names = libraries.waiting_names(texts, lambda origin: origin[0].startswith("torch."))
imports = Imports(Plan(root="torch", held=("torch.held",), submodules={{"torch": ("held",)}}), eager={eager})
waiting = LibraryImports(names, imports, eager={eager})
class Rewriting(SourceFileLoader):
    def get_code(self, name):
        tree = libraries.rewrite(texts[name], names[name])
        return compile(tree, self.path, "exec", dont_inherit=True)
class Finder:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in ("torch", "lib"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        if name in names:
            spec.loader = Rewriting(name, spec.origin)
        return waiting.prepare(imports.prepare(spec))
sys.meta_path.insert(0, Finder())
import lib.use as use, lib.again as again, lib.registry as registry, lib.tells as tells
import torch
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a torch, and a library that takes names from it."""
    return write_modules(tmp_path_factory.mktemp("libraries"), MODULES)


def result(tree: Path, program: str, eager: bool = False) -> Any:
    """What a program gives for `answer`, in a process that has imported the library."""
    text = PRELUDE.format(tree=str(tree), eager=eager) + dedent(program)
    return printed(f"{text}\nprint(json.dumps(answer))", tree)


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("answer = ORDER", ["torch"]),
        ("answer = use.asks('text'), use.asks(1), use.asks_inside(1), ORDER", [True, False, False, ["torch"]]),
        ("answer = 'kind' in registry.REGISTRY, ORDER", [True, ["torch"]]),
        ("answer = isinstance(registry.REGISTRY, registry.Registry), ORDER", [True, ["torch"]]),
        ("answer = use.Holder().method(), use.Holder().noted(), ORDER", ["method", "noted", ["torch"]]),
        ("import inspect; answer = str(inspect.signature(use.typed)), ORDER", [
            "(thing: 'int | Kind', other: int = 2) -> 'Kind'", ["torch"]]),
        ("answer = 'torch.later' in sys.modules, torch.later.__name__, ORDER", [True, "torch.later", ["torch"]]),
        ("answer = registry.DEFINED, ORDER", [["native::scale"], ["torch"]]),
        ("answer = use.whole(), 'lib.tells.exporting' in sys.modules, ORDER", ["whole", False, ["torch"]]),
        ("answer = 'Kind' in dir(use), ORDER", [True, ["torch"]]),
    ],
)  # fmt: skip
def test_nothing_runs_before_it_is_used(tree: Path, program: str, wanted: Any) -> None:
    """Importing a library, and asking what can be answered without the modules that wait, runs none of them."""
    assert result(tree, program) == wanted


@pytest.mark.parametrize(
    "use",
    [
        "use.add()",
        "use.Kind",
        "from lib.use import Kind",
        "again.kind()",
        "registry.REGISTRY['kind']",
        "len(registry.REGISTRY)",
        "list(registry.REGISTRY)",
        "'nothing' in registry.REGISTRY",
        "registry.REGISTRY.register('more', 1)",
        "import torch.later",
        "import torch.later.kinds",
        "import torch.later.apart",
        "torch.later.Kind",
        "torch.later.added = 1",
        "dir(torch.later)",
        "from torch.later.kinds import Kind",
        "waiting.complete()",
    ],
)
def test_a_use_runs_torch_first_and_then_what_is_used(tree: Path, use: str) -> None:
    """Whatever is used first, all that `import torch` runs comes before the later modules, and a package before its modules."""
    order = result(tree, f"{use}\nanswer = [each for each in ORDER if each != 'told apart']")
    assert order[:4] == ["torch", "held", "later", "kinds"]
    assert len(order) == len(set(order))


def test_values_are_those_of_plain_imports(tree: Path) -> None:
    """After a use, the names, the keys of a filled object, and a function with a module's name are as without waiting."""
    program = """
    kind = use.Kind
    answer = [use.add(), use.asks(kind()), use.asks_inside(kind()), again.kind() is kind, list(registry.REGISTRY),
        registry.REGISTRY["pair"], torch.later.pair(), type(registry.REGISTRY).__name__, use.typed(3)]
    """
    held, eager = (result(tree, program, each) for each in (False, True))
    assert held == eager == [3, True, True, True, ["kind", "pair"], "pair", "pair", "Registry", 3]


def test_everything_is_as_in_stock_when_nothing_waits(tree: Path) -> None:
    """When all is complete, annotations, decorators and attributes are those of a process in which nothing waited."""
    program = """
    waiting.complete()
    answer = [
        {name: getattr(value, "__qualname__", type(value).__name__) for name, value in sorted(vars(use).items())
            if name not in ("__builtins__", "__cached__", "__loader__", "__spec__", "_torch_layer")},
        {name: str(kind) for name, kind in use.typed.__annotations__.items()},
        use.Holder().method(), use.Holder.method.__name__, torch.notes.NOTED, registry.DEFINED,
        torch.later.__class__.__name__, sorted(name for name in sys.modules if name.startswith("torch")),
    ]
    """
    held, eager = (result(tree, program, each) for each in (False, True))
    assert held[2:5] == [["made", "method"], "method", ["noted"]]
    assert {tuple(each[5]) for each in (held, eager)} == {
        ("native::scale", "lib::add", "first"),
        ("lib::add", "native::scale", "first"),
    }
    assert held[:5] + held[6:] == eager[:5] + eager[6:]


def test_what_waits_for_the_import_is_called_when_it_is_complete(tree: Path) -> None:
    """Put-off calls and definitions of operators are made in their order, when something completes torch's import."""
    assert result(tree, "torch.held.value\nanswer = registry.DEFINED") == ["native::scale", "lib::add", "first"]


def test_a_look_for_an_operator_defines_it(tree: Path) -> None:
    """An operator that a library's statement defines is not there yet: to look it up completes the import."""
    program = """
    try: torch._ops._OpNamespace().add
    except AttributeError: pass
    answer = registry.DEFINED
    """
    assert result(tree, program) == ["native::scale", "lib::add", "first"]


def test_notes_about_functions_are_made_in_the_body_of_their_module(tree: Path) -> None:
    """A function of torch that asks who calls it is told of a library's functions later, as if the module's body called it."""
    held, eager = (result(tree, "answer = torch.held.WRAPPED", each) for each in (False, True))
    assert held == eager == [["lib.use", "whole"], ["lib.use", "add"]]


@pytest.mark.parametrize(
    "use", ["import torch.later.apart", "tells.tell", "tells.exporting", "tells.again()", "waiting.complete()"]
)
def test_statements_wait_for_the_module_that_they_are_for(tree: Path, use: str) -> None:
    """Statements that wait for a later module run once it has run, in their order, or when a name of theirs is wanted."""
    program = f"""
    before = "exporting" in vars(tells), "tell" in vars(tells), not {{"tell", "exporting"}} - set(dir(tells))
    {use}
    answer = before, [each for each in ORDER if "apart" in each or each == "exporting"], tells.tell.__name__
    """
    before, order, name = result(tree, program)
    assert (before, order[:3], name) == ([False, False, True], ["apart", "exporting", "told apart"], "tell")


@pytest.mark.parametrize("text", ["from .exporting import other", "from .exporting import tell\nif tell: tell()"])
def test_statements_of_another_version_do_not_wait(tree: Path, text: str) -> None:
    """Where a module does not have the lines of a row, or needs what they bind, it is left as it is."""
    program = f"""
    answer = libraries.waiting_names({{"lib.tells": ModuleText("lib.tells", False, {text.encode()!r})}}, lambda origin: False)
    """
    assert result(tree, program) == {}


def test_a_name_that_was_never_imported_is_no_name(tree: Path) -> None:
    """Where the module has not come to the import, the error is Python's own."""
    program = """
    answer = []
    for what in (use.gone, lambda: use.THING):
        try: what()
        except (NameError, AttributeError) as error: answer.append([type(error).__name__, str(error)])
    """
    assert result(tree, program) == [
        ["NameError", "name 'THING' is not defined"],
        ["AttributeError", "module 'lib.use' has no attribute 'THING'"],
    ]


def test_a_module_that_fails_is_tried_again(tree: Path) -> None:
    """The error of a later module passes on, and the next use runs it again."""
    program = """
    import builtins
    builtins.FAIL, answer = True, []
    try: use.add()
    except ValueError as error: answer.append(str(error))
    builtins.FAIL = False
    answer.append(use.add())
    """
    assert result(tree, program) == ["later", 3]


def test_threads_see_no_half_run_module(tree: Path) -> None:
    """Threads that use a waiting name at the same time get the same class."""
    program = """
    import threading
    found = []
    threads = [threading.Thread(target=lambda: found.append(use.Kind)) for _ in range(8)]
    for each in threads: each.start()
    for each in threads: each.join()
    answer = len(found), len(set(found)), ORDER.count("later")
    """
    assert result(tree, program) == [8, 1, 1]
