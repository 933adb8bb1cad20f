"""Imports torch from a tree of plain files with modules held, and says what happened. `builder.python.deferred.search` starts it.

    python -m builder.python.deferred.trial WHAT [PLAN ...]

    order PACKAGE               which modules importing it runs, in order
    discover PLAN               which held modules are needed, as each runs by itself when touched
    groups PLAN                 what completes the import, at import and in groups of the workload
    operators [PLAN]            every operator's kernels
    complete PLAN               the same, when the import was completed
    native [PLAN]               the modules inside torch._C
    numpy-needs PLAN            which held modules of NumPy its C code needs
    numpy-at-start PLAN PLAN    with modules of torch and of NumPy held: what touches NumPy's

The tree is the first folder of `PYTHONPATH`. The last line of standard output is JSON.
"""

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from builder.python.deferred import defer, planning, rules
from builder.python.deferred.sources import SourceTree
from torch_layer.imports import Imports
from torch_layer.plan import Plan

# What `torch_layer.tripwires` calls the things that it watches.
_TRIPWIRES = ("torch.ops", "a meta tensor", "torch.Tensor")

# The last frames of a failed trial that an error shows; a circular import has some ten.
_SHOWN_FRAMES = 24


class _RunAlone:
    """A hook for `Completion.on_touch`: each held module runs by itself when it is touched, and is written down.

    Args:
        imports: whose modules they are.
    """

    def __init__(self, imports: Imports) -> None:
        self.touched: list[str] = []
        self._placeholders = imports.placeholders

    def __call__(self, module: str, name: str) -> bool:
        """Run the module, if it is held and has not run."""
        if module.startswith(_TRIPWIRES):
            raise AssertionError(f"completed by {module} {name}")
        if module in self._placeholders.waiting:
            self.touched.append(module)
            # Without its package: on the layer, the package of a module that runs may be held.
            self._placeholders.run_alone(module)
        return True


class _EndAtFirstTouch:
    """A hook for `Completion.on_touch` that says what was touched, and where, and ends the process.

    Args:
        say: gets the touch as text.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say

    def __call__(self, module: str, name: str) -> bool:
        """Say it and end."""
        frame: Any = sys._getframe(1)
        while frame and ("torch_layer" in frame.f_code.co_filename or "importlib" in frame.f_code.co_filename):
            frame = frame.f_back
        where = f" in {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        self.say((f"{module}.{name}" if name else module) + where)
        os._exit(0)


class _RewritingLoader(SourceFileLoader):
    """Compiles the rewritten source."""

    sources: SourceTree
    plan: Plan

    def get_code(self, fullname: str) -> CodeType | None:
        if fullname not in self.plan.deferred_names:
            return super().get_code(fullname)
        tree = defer.rewrite(*planning.rewriting(self.sources, self.plan, fullname))
        code: CodeType = compile(tree, self.get_filename(fullname), "exec", dont_inherit=True)
        return code


class _TreeFinder:
    """Finds the modules of the tree, held and rewritten as planned."""

    def __init__(self, imports: Imports, sources: SourceTree, plan: Plan) -> None:
        self._imports, self._sources, self._plan = imports, sources, plan
        self._packages = ("numpy",) if plan.root == "numpy" else rules.PACKAGES

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder."""
        if name.split(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec and self._imports.prepare(spec)
        loader = _RewritingLoader(spec.loader.name, spec.loader.path)
        loader.sources, loader.plan = self._sources, self._plan
        spec.loader = loader
        changed: ModuleSpec = self._imports.prepare(spec)
        return changed


def order(package: str) -> list[str]:
    """The modules that importing a package runs, in the order in which it begins to."""
    root = _tree()
    found: dict[str, None] = {}

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        code = arguments[0] if event == "exec" else None
        if isinstance(code, CodeType) and code.co_name == "<module>" and code.co_filename.startswith(f"{root}/"):
            parts = Path(code.co_filename).relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = None

    sys.addaudithook(note)
    import_module(package)
    return list(found)


def _tree() -> Path:
    return Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])


def _install(plan: Plan, before: Imports | None = None) -> Imports:
    imports = Imports(plan, before=before)
    sys.meta_path.insert(0, _TreeFinder(imports, SourceTree(_tree()), plan))
    return imports


def discover(plan: Plan) -> dict[str, Any]:
    """The modules that importing torch and a first layer need; an error is where held modules were in each other's way."""
    imports = _install(plan)
    imports.completion.on_touch = hook = _RunAlone(imports)
    error = ""
    try:
        import torch

        torch.nn.LSTM(4, 4)(torch.zeros(1, 1, 4))
    except Exception as problem:
        error = _described(problem)
    return {"touched": hook.touched, "error": error}


def _described(problem: BaseException) -> str:
    """An error with the way that led to it, without the frames of the import system: which module began it is the cause."""
    frames = [
        frame
        for frame in traceback.extract_tb(problem.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith("<frozen")
    ]
    way = "\n".join(f"  {frame.filename}:{frame.lineno}: {frame.line}" for frame in frames[-_SHOWN_FRAMES:])
    return f"{type(problem).__name__}: {problem}\n{way}"


def groups(plan: Plan) -> dict[str, str]:
    """What touched a held module first: `"import"` -> reason, or by group; groups that touch none are left out.

    Each group runs in a child of its own, forked when torch was imported; those that may complete the import (`rules.COMPLETING`)
    are left out.
    """
    found: dict[str, str] = {}

    def at_import(reason: str) -> None:
        print(json.dumps({"import": reason}), flush=True)  # noqa: T201 -- the answer of this process

    hook = _EndAtFirstTouch(at_import)
    _install(plan).completion.on_touch = hook
    import torch  # noqa: F401

    from builder import workload

    may = {rule.group for rule in rules.applying(rules.COMPLETING, SourceTree(_tree()).torch)}
    for group in workload.GROUPS:
        if group.name not in may:
            reason = _in_child(hook, group)
            if reason:
                found[group.name] = reason
    return found


def _in_child(hook: _EndAtFirstTouch, group: Any) -> str:
    from builder import workload

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        hook.say = lambda reason: os.write(writing, reason.encode())
        try:
            workload.run_groups([group])
        except BaseException as error:
            # A pipe takes so much at once, without a reader.
            os.write(writing, f"error: {_described(error)}".encode()[: select.PIPE_BUF])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        reason = pipe.read()
    os.waitpid(child, 0)
    return reason


def operators(plan: Plan | None, *, complete: bool = False) -> dict[str, dict[str, str]]:
    """`builder.python.deferred.operators.kernels` of stock torch, or with modules held."""
    if plan is not None:
        imports = _install(plan)
        import torch  # noqa: F401

        if complete:
            imports.completion.complete()
    from builder.python.deferred.operators import kernels

    return kernels()


def native(plan: Plan | None) -> list[str]:
    """The modules inside the extension module `torch._C` that are there when torch was imported."""
    if plan is not None:
        _install(plan)
    import torch  # noqa: F401

    return sorted(name for name in sys.modules if name.startswith("torch._C."))


def numpy_needs(plan: Plan) -> list[str]:
    """The modules of NumPy that must have run before its C code is loaded: those it touches."""
    imports = _install(plan)
    imports.completion.on_touch = hook = _RunAlone(imports)
    imports.placeholders.is_lent = True
    import_module(rules.NUMPY_NATIVE)
    return hook.touched


def numpy_at_start(torch_plan: Plan, plan: Plan) -> str:
    """What touches NumPy first while torch is imported and a layer runs; empty if nothing does."""
    found: list[str] = []

    def note(module: str, name: str) -> bool:
        found.append(f"{module}.{name}" if name else module)
        return False

    numpy = _install(plan)
    for imports in (numpy, _install(torch_plan, before=numpy)):
        imports.completion.on_touch = note
    import torch

    torch.nn.LSTM(4, 4)(torch.zeros(1, 1, 4))
    return found[0] if found else ""


def _read(path: str) -> Plan:
    """A plan from JSON, in which tuples are lists."""
    value = json.loads(Path(path).read_text(encoding="utf-8"))
    names = {
        module: {name: tuple(origin) for name, origin in names.items()}
        for module, names in value["deferred_names"].items()
    }
    statements = {module: tuple(names) for module, names in value["deferred_statements"].items()}
    submodules = {package: tuple(names) for package, names in value["submodules"].items()}
    functions = tuple(tuple(each) for each in value["copied_functions"])
    listed = ("held", "factories", "meta_operators", "namespaces", "native", "rebound", "at_fork", "separable")
    lists = {name: tuple(value[name]) for name in listed}
    changed = {
        "deferred_names": names,
        "deferred_statements": statements,
        "copied_functions": functions,
        "submodules": submodules,
    }
    return Plan(**(value | lists | changed))


def main(argv: list[str]) -> None:
    """Run one trial and print its result."""
    what, *arguments = argv
    if what == "order":
        result: Any = order(arguments[0])
    elif what == "discover":
        result = discover(_read(arguments[0]))
    elif what == "groups":
        result = groups(_read(arguments[0]))
    elif what == "numpy-needs":
        result = numpy_needs(_read(arguments[0]))
    elif what == "numpy-at-start":
        result = numpy_at_start(_read(arguments[0]), _read(arguments[1]))
    elif what == "native":
        result = native(_read(arguments[0]) if arguments else None)
    else:
        result = operators(_read(arguments[0]) if arguments else None, complete=what == "complete")
    print(json.dumps(result), flush=True)  # noqa: T201 -- the answer of this process
    # What a half-imported torch would do at exit is of no interest.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
