"""Rewritten modules compute what the originals do, and ask for a name only when they need it."""

import ast
import dis
import json
import platform
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import paths
from builder.errors import BuildError
from builder.python.deferred import planning
from builder.python.deferred.candidates import deferrable, names_bound
from builder.python.deferred.defer import Stub, rewrite
from builder.python.deferred.module_text import ModuleText
from builder.python.deferred.sources import SourceTree

CLASSES = {("other", "Kind")}


def waiting(source: str) -> set[str]:
    """The names of a module `here` that could wait."""
    return set(deferrable(ModuleText("here", False, source.encode()), lambda name: name == "other.part"))


class RecordingHelper:
    """Stands for `_torch_layer`."""

    def __init__(self, ready: bool, has_run: bool = False) -> None:
        self.ready = ready
        self.has_run = has_run  # the module of the class
        self.asked: list[str] = []
        self.deferred_statements: list[tuple[str, tuple[str, ...]]] = []

    def defer_names(self, module: str, source: str, *names: str) -> None:
        """Importing the module that the names come from."""
        self.asked.append(f"import {source}")
        self.deferred_names = names

    def defer_statement(self, module: str, statement: Callable[[], None], *names: str) -> None:
        """A statement that waits."""
        assert isinstance(statement, FunctionType)
        self.statement = statement
        self.deferred_statements.append((module, names))

    def resolve(self, module: str, name: str) -> Any:
        """A name is needed."""
        self.asked.append(name)
        if self.deferred_statements:
            self.statement()
            return self.statement.__globals__[name]
        return {"one": 1, "Kind": int}[name]

    def class_if_made(self, module: str, name: str) -> Any:
        """A class is asked about."""
        return int if self.ready or self.has_run else ()

    class_if_run = class_if_made


def run(source: str, ready: bool, names: tuple[str, ...] = ("one", "Kind"), **values: Any) -> dict[str, Any]:
    """The namespace of the rewritten module, `helper` in it."""
    module = ModuleText("here", False, source.encode())
    found = {name: origin for name, origin in deferrable(module, lambda _name: False).items() if name in names}
    tree = rewrite(module, found, CLASSES, values.pop("stubs", {}), values.pop("statements", ()))
    helper = RecordingHelper(ready, values.pop("has_run", False))
    namespace: dict[str, Any] = {"__name__": "here", "_torch_layer": helper, "helper": helper, **values}
    exec(compile(tree, "here.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from other import one\ndef f():\n    return one", {"one"}),
        ("from other import one as two\ndef f():\n    return two", {"two"}),
        ("from other import one\nx = one", set()),
        ("from other import one\nclass C(one): pass", set()),
        ("from other import one\nclass C:\n    x = one", set()),
        ("from other import one\n@one\ndef f(): pass", set()),
        ("from other import one\ndef f(x=one): pass", set()),
        ("from other import one\ndef f(x: one): pass", set()),
        ("from __future__ import annotations\nfrom other import one\ndef f(x: one): pass", {"one"}),
        ("from other import one\nx = [one for _ in range(3)]", set()),
        ("from other import one\nx = lambda: one", {"one"}),
        ("from other import one\none = 2\ndef f():\n    return one", set()),
        ("from other import one\nfrom third import one\ndef f():\n    return one", set()),
        ("try:\n    from other import one\nexcept ImportError:\n    one = 1\ndef f():\n    return one", set()),
        ("from other import one\ndef f():\n    global one\n    one = 3", set()),
        ("from other import one\ndef f(x):\n    match x:\n        case one(): pass", set()),
        ("from other import part\ndef f():\n    return part", set()),
        ("from other import *\ndef f():\n    return one", set()),
        ("from other import one", {"one"}),
    ],
)
def test_only_names_that_the_body_does_not_read_can_wait(source: str, expected: set[str]) -> None:
    """A name waits if functions alone use it, and nothing else binds it."""
    assert waiting(source) == expected


def test_a_name_is_asked_for_when_it_is_used() -> None:
    """Importing asks for nothing, the first use for one name, and when everything has run nothing is asked for."""
    source = "from other import one, Kind\ndef f():\n    return one\n"
    namespace = run(source, ready=False)
    assert namespace["helper"].asked == ["import other"]
    assert namespace["f"]() == 1
    assert namespace["helper"].asked == ["import other", "one"]
    ready = run(source, ready=True)
    ready["one"] = 5
    assert ready["f"]() == 5
    assert ready["helper"].asked == ["import other"]


@pytest.mark.parametrize(
    "body",
    [
        "def f(one):\n    return one\nresult = f(7)",
        "def f():\n    one = 7\n    return one\nresult = f()",
        "def f():\n    return [one for one in (7,)][0]\nresult = f()",
        "def f():\n    def one():\n        return 7\n    return one()\nresult = f()",
        "def f():\n    import os as one\n    return 7 if one.sep else 0\nresult = f()",
        "def f():\n    one = 7\n    def g():\n        return one\n    return g()\nresult = f()",
        "def f():\n    with open('/dev/null') as one:\n        return 7 if one else 0\nresult = f()",
    ],
)
def test_a_local_name_is_left_alone(body: str) -> None:
    """A local variable of the same name is no use of the module's."""
    namespace = run(f"from other import one\n{body}\n", ready=False)
    assert namespace["result"] == 7
    assert namespace["helper"].asked == ["import other"]


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        "def f(x):\n    from other import Kind\n    return isinstance(x, Kind)",
        "def f(x):\n    from other import Kind\n    return isinstance(x, (str, Kind))",
        "def f(x):\n    from other import Kind\n    def g():\n        return isinstance(x, Kind)\n    return g()",
        "def f(x):\n    from other import Kind\n    return type(x) is Kind",
        "def f(x):\n    return isinstance(x, other.Kind)",
        "from other import Kind\ndef f(x):\n    return isinstance(x, Kind)",
    ],
)
def test_nothing_is_an_instance_of_a_class_that_was_never_made(function: str, ready: bool) -> None:
    """A question about a class of a held module is answered without running it, and with it once it has run."""
    other = type("Other", (), {"Kind": int})
    namespace = run("from __future__ import annotations\n" + function + "\n", ready=ready, other=other)
    if ready:
        namespace.setdefault("Kind", int)
    assert namespace["f"](3) is ready
    assert "Kind" not in namespace["helper"].asked


@pytest.mark.parametrize("question", ["isinstance(x, other.Kind)", "type(x) is other.Kind"])
def test_a_class_of_a_module_that_ran_by_itself_has_instances(question: str) -> None:
    """Once a separable module has run, its instances are known as such, though the import is not complete."""
    other = type("Other", (), {"Kind": int})
    namespace = run(f"def f(x):\n    return {question}\n", ready=False, other=other, has_run=True)
    assert namespace["f"](3)
    assert not namespace["f"]("3")


def test_a_class_that_is_used_otherwise_is_needed() -> None:
    """A function that calls the class, beside asking about it, imports it as it did."""
    source = "def f(x):\n    from other import Kind\n    return isinstance(x, Kind) or Kind(x)\n"
    tree = rewrite(ModuleText("here", False, source.encode()), {}, CLASSES, {})
    assert ast.unparse(tree) == ast.unparse(ast.parse(source))


def test_a_function_may_answer_by_rule() -> None:
    """An answer stands before the function's own code until everything has run; a function that is not there is an error."""
    source = 'def f():\n    """Text."""\n    return 2\n'
    one = Stub("1", "")
    assert run(source, ready=False, stubs={"f": one})["f"]() == 1
    assert run(source, ready=True, stubs={"f": one})["f"]() == 2
    assert run(source, ready=True, stubs={"f": one})["f"].__doc__ == "Text."
    with pytest.raises(ValueError, match="no function g"):
        run(source, ready=True, stubs={"g": one})


def test_a_function_that_a_function_makes_may_answer_by_rule() -> None:
    """Such a function is named after the one that makes it. Its answer may use what both have."""
    source = "def outer(f):\n    if f:\n        def inner(x):\n            return 0\n        return inner\n"
    stubs = {"outer.inner": Stub("f(x)", "")}
    assert run(source, ready=False, stubs=stubs)["outer"](abs)(-3) == 3
    assert run(source, ready=True, stubs=stubs)["outer"](abs)(-3) == 0
    with pytest.raises(ValueError, match=r"no function outer\.other"):
        run(source, ready=True, stubs={"outer.other": Stub("1", "")})


def test_an_answer_may_depend_on_the_arguments() -> None:
    """Where the condition of an answer is not true, the function runs."""
    function = run("def f(x):\n    return x\n", ready=False, stubs={"f": Stub("1", "x > 5")})["f"]
    assert [function(5), function(6)] == [5, 1]


STATEMENT = "if True:\n    import os.path as path\n    def g():\n        return path.sep\ndef f():\n    return g()\n"


def test_a_statement_can_wait() -> None:
    """A statement that waits is handed over with the names that it binds, and uses of these ask for it."""
    namespace = run(STATEMENT, ready=False, statements=["if True:"])
    (statement,) = namespace["helper"].deferred_statements
    assert "path" not in namespace
    assert "g" not in namespace
    assert namespace["f"]() == "/"
    assert namespace["helper"].asked[0] == "g"
    assert statement == ("here", ("g", "path"))
    assert namespace["g"].__qualname__ == "g"
    assert names_bound(ModuleText("here", False, STATEMENT.encode()), ["if True:"]) == ("g", "path")


def test_a_name_that_a_statement_deletes_again_does_not_wait() -> None:
    """A name that a statement binds for itself is no name of the module, before and after it has run."""
    source = "if True:\n    import os as own\n    kept = own.sep\n    del own\n"
    namespace = run(source, ready=False, statements=["if True:"])
    assert namespace["helper"].deferred_statements == [("here", ("kept",))]
    namespace["helper"].statement()
    assert namespace["kept"] == "/"
    assert "own" not in namespace
    assert names_bound(ModuleText("here", False, source.encode()), ["if True:"]) == ("kept",)


def test_a_statement_that_binds_nothing_can_wait() -> None:
    """A call is handed over without names; it runs when everything does."""
    namespace = run("found = []\nfound.append(1)\n", ready=False, statements=["found.append(1)"])
    assert namespace["found"] == []
    assert namespace["helper"].deferred_statements == [("here", ())]
    namespace["helper"].statement()
    assert namespace["found"] == [1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("y = 1\n", "has not one statement 'x = 1'"),
        ("x = 1\nx = 1\n", "has not one statement 'x = 1'"),
        ("x = 1\ny = x\n", "here needs x at once"),
        ("x = 1\nx += 1\n", "here needs x at once"),
        ("x = 1\ndef f():\n    global x\n    x = 2\n", "here needs x at once"),
        ("x = 1\ndef f(y=x):\n    pass\n", "here needs x at once"),
    ],
)
def test_a_statement_that_is_needed_cannot_wait(source: str, message: str) -> None:
    """A statement that is not there, or whose names the module's body reads or binds again, is an error."""
    with pytest.raises(ValueError, match=message):
        names_bound(ModuleText("here", False, source.encode()), ["x = 1"])


EXPRESSIONS = st.recursive(
    st.sampled_from(["one", "x", "3"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} + {pair[1]})"),
        inner.map(lambda each: f"(lambda one: {each})(4)"),
        inner.map(lambda each: f"(lambda: {each})()"),
        inner.map(lambda each: f"sum([{each} for y in range(2)])"),
        inner.map(lambda each: f"sum(one for one in [{each}])"),
        inner.map(lambda each: f"(one if {each} else x)"),
        inner.map(lambda each: f"(lambda z={'{'}{each}{'}'}.pop(): z)()"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_rewriting_changes_no_result(expression: str) -> None:
    """Whatever a function computes from a name, it computes from it after rewriting, before and after everything has run."""
    source = f"from other import one\ndef f(x):\n    return {expression}\n"
    plain: dict[str, Any] = {}
    exec(f"one = 1\ndef f(x):\n    return {expression}\n", plain)
    ready = run(source, ready=True)
    ready["one"] = 1
    assert run(source, ready=False)["f"](2) == ready["f"](2) == plain["f"](2)


def _loads(code: CodeType, name: str) -> int:
    """How often a module's code reads a global."""
    read = [each for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [_loads(each, name) for each in code.co_consts if isinstance(each, CodeType)]
    return len([each for each in read if each.argval == name]) + sum(inner)


def _texts(code: CodeType, text: str) -> int:
    """How often a module's code uses a text."""
    used = [each for each in dis.get_instructions(code) if each.opname == "LOAD_CONST" and each.argval == text]
    return len(used) + sum(_texts(each, text) for each in code.co_consts if isinstance(each, CodeType))


def test_every_use_in_torch_is_guarded() -> None:
    """In the modules of the committed profile, each read of a deferred name has its question, and none is in a module's body."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    sources = SourceTree(Path(spec.origin).parents[1])
    tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
    (profile,) = paths.PROFILES.glob(f"torch-2.13.0*-{tag}-workload.json")
    held = planning.HeldModules(**{key: tuple(value) for key, value in json.loads(profile.read_text())["held"].items()})
    made = planning.make(sources, held)
    assert len(made.deferred_names) > 10
    for module, names in made.deferred_names.items():
        rewriting = planning.rewriting(sources, made, module)
        tree = rewrite(*rewriting)
        code = compile(tree, module, "exec", dont_inherit=True)
        before = compile(rewriting.module.source, module, "exec", dont_inherit=True)
        for name in (*names, *made.deferred_statements.get(module, ())):
            # A question names what it asks for; a `finally:` has its body twice, and so both.
            assert _loads(code, name) == _loads(before, name) <= _texts(code, name), f"{module}: {name}"


@pytest.mark.parametrize(
    ("core", "version", "message"),
    [
        ("for envkey in ['OPENBLAS_MAIN_FREE']:\n    pass\n", 'version = "9.9"\n', None),
        ("import os\n", 'version = "9.9"\n', 'no line "for envkey in'),
        ("for envkey in ['OPENBLAS_MAIN_FREE']:\n    pass\n", "version = find()\n", "does not set version to a text"),
    ],
)
def test_a_numpy_that_the_rules_do_not_fit_is_an_error(
    tmp_path: Path, core: str, version: str, message: str | None
) -> None:
    """NumPy's modules are held only where its C code is prepared as the layer prepares it, and its version can be read."""
    (tmp_path / "numpy" / "_core").mkdir(parents=True)
    for name, text in (("__init__", ""), ("version", version), ("_core/__init__", core)):
        (tmp_path / "numpy" / f"{name}.py").write_text(text)
    sources = SourceTree(tmp_path, ["numpy"])
    assert planning.of_numpy(sources, []).native == ()
    if message is None:
        assert planning.of_numpy(sources, ["numpy"]).constants == {"numpy": {"__version__": "9.9"}}
    else:
        with pytest.raises(BuildError, match=message):
            planning.of_numpy(sources, ["numpy"])
