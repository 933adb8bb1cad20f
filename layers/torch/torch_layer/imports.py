"""Holds back modules that `import torch` runs but ordinary inference never uses, until one of them is touched.

NumPy's modules are held in the same way, apart from torch's. Torch needs only the part of NumPy that is written in C.

`placeholders` has the held modules, and `completion` has the state of the import. This module serves the modules that run. Such
a module may take names from a held one (`from torch.fx import Graph`). The builder has rewritten it then
(`builder/python/deferred/defer.py`). Its global `_torch_layer` is an `Imports`, and it asks this for a name when it needs it.

All of this runs before torch at every cold start. So it imports only what torch imports.
"""

import sys
from collections.abc import Callable, Collection, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from torch_layer import start, tripwires
from torch_layer.completion import Completion
from torch_layer.placeholders import (
    HoldingLoader,
    NativeLoader,
    PlaceholderKeeper,
    PresentLoader,
    WrappedLoader,
    listen,
    plain,
)
from torch_layer.plan import Plan

Waiting = tuple[Callable[[], None], tuple[str, ...]]  # a statement, and the names that it binds


class Imports:
    """How the modules of one package are imported.

    Args:
        plan: which of them are held, and what others defer.
        eager: hold nothing back.
        before: those of another package, which are completed first.

    Attributes:
        ready: as `completion.ready`. Rewritten modules read it at every use of a deferred name, so it is a plain attribute.
        completion: the state of the package's import.
        placeholders: its held modules.
        operator_namespaces: looking up an operator there that is not defined is a touch.
    """

    def __init__(self, plan: Plan, *, eager: bool = False, before: "Imports | None" = None) -> None:
        held = () if eager else plan.held
        first = None if before is None else before.completion
        self.completion: Completion = Completion(plan.root, len(held), first, plan.at_fork)
        self.ready = self.completion.ready
        self.completion.undo.append(self._set_ready)
        self.placeholders = PlaceholderKeeper(
            self.completion, held, plan.native, plan.rebound, plan.constants, plan.separable
        )
        self.completion.steps.append(self._bind_everything)
        self._plan, self._before, self.operator_namespaces = plan, before, set(plan.namespaces)
        self._statements: dict[str, list[Waiting]] = {}  # by module
        self._copies: list[tuple[str, str]] = []  # module, and name in it that a copied function has meanwhile

    # -- importing ---------------------------------------------------------------------------------------------------------

    def prepare(self, spec: Any, *, is_entered: bool = False) -> Any:
        """The spec of a module that is to be imported, with another loader where the module is held or was rewritten.

        Args:
            spec: as the finder made it.
            is_entered: a stub of the module is running now.
        """
        if spec.name in self._plan.native:
            spec.loader = NativeLoader(spec.loader, self.placeholders)
        if spec.name in self._plan.deferred_names or spec.name in self._plan.submodules or spec.name == "torch":
            spec.loader = RunningLoader(spec.loader, self)
        if spec.name in self.placeholders.held and not self.ready:
            if self.completion.is_completing() and spec.name in sys.modules and not is_entered:
                # Running the package has brought the module in, while the import system was on the way to it.
                spec.loader = PresentLoader(spec.loader, self.placeholders)
            else:
                spec.loader = HoldingLoader(spec.loader, self.placeholders)
            listen(spec, self.placeholders)
        return spec

    def execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        """Run a module that has names which wait, or the root: `run` executes its code in its globals."""
        if module.__name__ == "torch":
            start.quickly(lambda: self._execute(module, run))
            self._finish_start()
        else:
            self._execute(module, run)

    def _execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        name, plan = module.__name__, self._plan
        names = {*plan.deferred_names.get(name, ()), *plan.deferred_statements.get(name, ())}
        children, namespace = plan.submodules.get(name, ()), module.__dict__
        namespace["_torch_layer"] = self
        if self.ready or not (names or children):
            run()
            return
        hooks = ModuleHooks(namespace, name, names, self.resolve)
        run()
        hooks.wrap(children, self.placeholders.find_child)
        if self.ready:
            hooks.remove()
        else:
            self.completion.undo.append(hooks.remove)

    def _finish_start(self) -> None:
        """When `import torch` ends: run what cannot wait, and set the tripwires."""
        if self.ready or self.completion.was_asked():
            return
        if self._before is not None:
            self._before.completion.guard_forks()
        self.completion.guard_forks()
        namespace: dict[str, Any] = {}
        exec(self._plan.eager_code, namespace)  # noqa: S102 -- the builder took it from torch's own sources
        for origin in self._plan.copied_functions:
            self._put_copy(origin, namespace[origin[1]])
        self.placeholders.hold_native()
        tripwires.operators(self.completion, self.operator_namespaces)
        tripwires.meta_tensors(self.completion, self._plan.factories, self._plan.meta_operators)
        if self._before is not None and not self._before.ready:
            self._before._lend_to_torch()

    def _lend_to_torch(self) -> None:
        """Let torch's C code ask NumPy for its functions, as it does at its first tensor of numbers. Any later use is a touch."""
        self.placeholders.is_lent = True
        try:
            sys.modules["torch"].tensor(0)
        finally:
            self.placeholders.is_lent = False
        self.placeholders.hold_native()
        tripwires.arrays(self.completion)

    def _put_copy(self, origin: tuple[str, str], function: Callable[..., Any]) -> None:
        """Let a copied function answer in its module, and in those that have taken it from there, until the module runs."""
        module, name = origin

        def copied(*arguments: Any, **options: Any) -> Any:
            # A program that took the copy before the import was completed has it still.
            own = getattr(sys.modules[module], name) if self.ready else function
            return own(*arguments, **options)

        copied.__module__, copied.__name__, copied.__qualname__ = module, name, name
        if (waiting := self.placeholders.placeholder(module)) is not None:
            plain(waiting, "__dict__")[name] = copied
        for other, names in self._plan.deferred_names.items():
            for each, taken in names.items():
                if taken == origin and other in sys.modules:
                    sys.modules[other].__dict__[each] = copied
                    self._copies.append((other, each))

    # -- what rewritten modules call -------------------------------------------------------------------------------------------

    def defer_names(self, module: str, source: str, *names: str) -> None:
        """Stands for `from source import ...`, of names that can wait: runs or holds `source`, as importing it would."""
        import_module(source)
        namespace = sys.modules[module].__dict__
        for name in names:
            # The statement would put its value over what is there: a submodule of this name, which the import system has bound.
            namespace.pop(name, None)
            if self.ready or self.completion.is_completing():
                self._bind(module, name)

    def defer_statement(self, module: str, statement: Callable[[], None], *names: str) -> None:
        """Stands for a statement of a module's body that can wait; `statement` runs it, which binds these names of the module."""
        if self.ready:
            statement()
        else:
            self._statements.setdefault(module, []).append((statement, names))

    def resolve(self, module: str, name: str) -> Any:
        """The value of a deferred name, which is needed now."""
        namespace = sys.modules[module].__dict__
        if name in namespace:
            return namespace[name]
        if name in self._plan.deferred_statements.get(module, ()):
            self._run_statement_of(module, name)
            if name not in namespace:
                raise AttributeError(f"module {module!r} has no attribute {name!r}")
            return namespace[name]
        origin, attribute = self._plan.deferred_names[module][name]
        if origin in self.placeholders.held and not self.placeholders.run_separately(origin):
            self.completion.touched(origin, attribute)
        # While the import completes, its own modules ask too.
        return namespace[name] if name in namespace else self._bind(module, name)

    def class_if_made(self, module: str, name: str) -> Any:
        """A class of a held module, for the question whether something is its instance; no class before the module runs.

        `isinstance(x, ())` is false, and so is what it stands for: of a class that was never made there are no instances.
        """
        has_run = module in sys.modules and module not in self.placeholders.waiting  # it is separable
        if self.completion.is_idle() and not has_run:
            return ()
        return getattr(import_module(module), name)

    # -- completing --------------------------------------------------------------------------------------------------------

    def _set_ready(self) -> None:
        self.ready = True

    def _bind_everything(self) -> None:
        while self._copies:
            module, name = self._copies.pop()
            del sys.modules[module].__dict__[name]
        for module, names in self._plan.deferred_names.items():
            if module in sys.modules:
                for each in names:
                    self._bind(module, each)
        for module, statements in self._statements.items():
            while statements:
                _run_statement(module, *statements[0])
                del statements[0]

    def _bind(self, module: str, name: str) -> Any:
        origin, attribute = self._plan.deferred_names[module][name]
        value = getattr(import_module(origin), attribute)
        sys.modules[module].__dict__.setdefault(name, value)
        return value

    def _run_statement_of(self, module: str, name: str) -> None:
        """Run the statement that binds a name."""
        with self.completion.lock:
            for each in self._statements.get(module, ()):
                if name in each[1]:
                    _run_statement(module, *each)
                    # If it has completed the import, it is gone.
                    if each in self._statements[module]:
                        self._statements[module].remove(each)
                    break


def _run_statement(module: str, statement: Callable[[], None], names: Iterable[str]) -> None:
    namespace = sys.modules[module].__dict__
    given = {name: namespace[name] for name in names if name in namespace}
    statement()
    namespace.update(given)  # what a program has set meanwhile, a test's mock, say


class ModuleHooks:
    """`__getattr__` and `__dir__` of a module that runs (PEP 562), which serve its names that wait.

    Args:
        namespace: the module's globals, before it runs.
        module: its name.
        names: those that wait.
        resolve: gives the value of one, of a module and a name.
    """

    def __init__(
        self, namespace: dict[str, Any], module: str, names: Collection[str], resolve: Callable[[str, str], Any]
    ) -> None:
        self._namespace, self._module, self._names, self._resolve = namespace, module, names, resolve
        self._own: dict[str, Callable[..., Any]] = {}
        self._children: Collection[str] = ()
        self._find_child: Callable[[str, str], Any] = lambda _module, _name: None
        self._hooks: dict[str, Callable[..., Any]] = {"__getattr__": self._get, "__dir__": self._list}
        namespace["__getattr__"] = self._hooks["__getattr__"]

    def wrap(self, children: Collection[str], find_child: Callable[[str, str], Any]) -> None:
        """When the module has run: list the names, and go before hooks that it has defined itself.

        Args:
            children: names of submodules that are held, which nothing may have imported yet.
            find_child: gives one of them, of a module and a name; None as long as there is none.
        """
        self._children, self._find_child = children, find_child
        found = {name: self._namespace.get(name) for name in self._hooks}
        self._own = {name: hook for name, hook in found.items() if hook is not None and hook != self._hooks[name]}
        self._namespace.update(self._hooks)

    def remove(self) -> None:
        """Leave the module with its own hooks, if it has any."""
        for name in self._hooks:
            del self._namespace[name]
        self._namespace.update(self._own)

    def _get(self, attribute: str) -> Any:
        if attribute in self._names and attribute not in self._namespace:
            return self._resolve(self._module, attribute)
        if attribute in self._children and (child := self._find_child(self._module, attribute)) is not None:
            return child
        if "__getattr__" in self._own:
            return self._own["__getattr__"](attribute)
        raise AttributeError(f"module {self._module!r} has no attribute {attribute!r}")

    def _list(self) -> list[str]:
        own = self._own["__dir__"]() if "__dir__" in self._own else self._namespace.keys() - self._hooks.keys()
        return sorted({*own, *self._own, *self._names, *self._children})


class RunningLoader(WrappedLoader):
    """For a module that runs and has names which wait; `imports` are `Imports`, or do as they do."""

    def __init__(self, real: Any, imports: Any) -> None:
        super().__init__(real)
        self._imports = imports

    def exec_module(self, module: ModuleType) -> None:
        """Run it, with what it asks for deferred names."""
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.real
        self._imports.execute(module, lambda: self.real.exec_module(module))
