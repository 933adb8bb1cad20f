"""What packages that a user adds take from torch, and what waits until it is used: names, and the modules that have them.

transformers takes classes for several machines, for graphs and for compilers from torch when it is imported, and an answer on
one machine uses none of them. The builder has rewritten its modules (`builder/python/deferred/libraries.py`): their global
`_torch_layer` is a `LibraryImports`, and they ask this for a name when they need it.

A layer without such packages does not import this.
"""

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any

from torch_layer.filled_objects import FilledObjects
from torch_layer.imports import Imports, ModuleHooks, RunningLoader
from torch_layer.later_modules import LaterModules
from torch_layer.placeholders import plain
from torch_layer.waiting_calls import WaitingCalls

Names = Mapping[str, Mapping[str, tuple[str, str]]]
"""Module of an added package -> names in it that wait -> the module that has the value, and the attribute there."""


class LibraryImports(WaitingCalls):
    """How the modules of added packages are imported.

    Args:
        names: what waits in them.
        torch: how torch is imported.
        eager: nothing waits.

    Attributes:
        ready: nothing waits any more. Rewritten modules read it at every use of a deferred name, so it is a plain attribute.
        later: the later modules that wait.
    """

    def __init__(self, names: Names, torch: Imports, *, eager: bool = False) -> None:
        super().__init__(torch, eager=eager)
        self.later = LaterModules(torch.completion)
        self._names = names
        self._filled = FilledObjects(torch.completion.lock)
        self._announced: dict[str, list[str]] = {}  # module -> names of which it has run the import
        self._annotated: list[tuple[Any, tuple[str, ...]]] = []  # functions, and which of their annotations are texts
        self._undo: list[Callable[[], None]] = []

    def prepare(self, spec: Any) -> Any:
        """The spec of a module that is to be imported, with another loader where names of it wait or where it waits itself."""
        if spec.name in self._names:
            spec.loader = RunningLoader(spec.loader, self)
        else:
            self.later.prepare(spec)
        return spec

    def execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        """Run a module that has names which wait: `run` executes its code in its globals."""
        namespace = module.__dict__
        namespace["_torch_layer"] = self
        names = self._names[module.__name__]
        if self.ready or not names:
            run()
            return
        hooks = ModuleHooks(namespace, module.__name__, names, self._attribute)
        run()
        hooks.wrap((), lambda _module, _name: None)
        self._undo.append(hooks.remove)

    # -- what rewritten modules call -------------------------------------------------------------------------------------------

    def defer_names(self, module: str, source: str, *names: str) -> None:
        """Stands for `from source import ...`, of names that can wait: `source` waits, unless it is there already."""
        if not self.ready:
            self.later.hold_module(source)
        for name in names:
            sys.modules[module].__dict__.pop(name, None)
            if self.ready:
                self._bind(module, name)
            else:
                self._announced.setdefault(module, []).append(name)

    def resolve(self, module: str, name: str) -> Any:
        """The value of a deferred name, which is needed now. Raises NameError where the module has not run its import."""
        namespace = sys.modules[module].__dict__
        if name in namespace:
            return namespace[name]
        if name in self._announced.get(module, ()):
            return self._bind(module, name)
        raise NameError(f"name {name!r} is not defined", name=name)

    def class_if_made(self, module: str, name: str) -> Any:
        """A class, for the question whether something is its instance; no class before its module has made it.

        `isinstance(x, ())` is false, and so is what it stands for: of a class that was never made there are no instances.
        """
        made = sys.modules.get(module)
        if made is None or module in self.later.waiting or module in self._torch.placeholders.waiting:
            return ()
        return plain(made, "__dict__").get(name, ())

    def defer_statement(self, module: str, after: str, statement: Callable[[], None], *_bound: str) -> None:
        """Stands for a statement of a module that waits until another one has run."""
        if self.ready:
            statement()
        else:
            left = [name for name, origin in self._names[module].items() if origin == (after, "")]
            self._announced.setdefault(module, []).extend(left)
            self.later.call_after(after, statement)

    def annotated(self, *parameters: str) -> Callable[[Any], Any]:
        """A decorator of a function whose annotations of these parameters (or of `return`) are texts: they name what waits."""

        def note(function: Any) -> Any:
            self._annotated.append((function, parameters))
            if self.ready:
                self._evaluate_annotations()
            return function

        return note

    def defer_filling(self, target: Any, statement: Callable[[], None], *keys: str) -> None:
        """Stands for statements that give an object values for these keys: they run when something uses the object."""
        if self.ready:
            statement()
        else:
            self._filled.defer(target, statement, keys)

    def defer_note(self, module: str, decorate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Stands for a decorator that notes something about its function in a later module, and gives the function back."""

        def note(function: Any) -> Any:
            if self.ready:
                return decorate(function)
            self.later.call_after(module, lambda: decorate(function))
            return function

        return note

    def defer_decorator(self, module: str, decorate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Stands for a decorator that changes nothing before a later module runs. The function that it makes is made then."""

        def put_off(function: Any) -> Any:
            if self.ready:
                return decorate(function)
            made: list[Any] = []

            @wraps(function)
            def undecorated(*arguments: Any, **options: Any) -> Any:
                return (made[0] if made else function)(*arguments, **options)

            def make() -> None:
                made.append(decorate(function))
                undecorated.__dict__.update(made[0].__dict__)
                _replace(undecorated, made[0])

            self.later.call_after(module, make)
            return undecorated

        return put_off

    # -- completing --------------------------------------------------------------------------------------------------------

    def complete(self) -> None:
        """Let nothing wait any more: run the later modules in the order of their imports, and bind all names.

        Raises:
            ImportError: a module could not be run; the next attempt tries again.
        """
        if self.ready:
            return
        self._torch.completion.complete()
        with self._torch.completion.lock:
            while self.later.waiting:
                first = next(iter(self.later.waiting))
                self.later.run(first, f"import {first}")
            for module, names in self._announced.items():
                for name in names:
                    self._bind(module, name)
            self._filled.fill_all()
            self._evaluate_annotations()
            self.ready = True
            while self._undo:
                self._undo.pop()()

    def _evaluate_annotations(self) -> None:
        while self._annotated:
            function, parameters = self._annotated[-1]
            given = function.__annotations__
            for parameter in parameters:
                if isinstance(given.get(parameter), str):
                    given[parameter] = eval(given[parameter], function.__globals__)  # noqa: S307 -- the module's own text
            self._annotated.pop()

    def _attribute(self, module: str, name: str) -> Any:
        try:
            return self.resolve(module, name)
        except NameError:
            raise AttributeError(f"module {module!r} has no attribute {name!r}") from None

    def _bind(self, module: str, name: str) -> Any:
        origin, attribute = self._names[module][name]
        namespace = sys.modules[module].__dict__
        if not attribute:  # a statement binds it that waits for the module
            if name not in namespace:
                self.later.run(origin, f"{module}.{name}")
            return namespace[name]
        value = getattr(import_module(origin), attribute)
        namespace.setdefault(name, value)
        return value


def _replace(old: Any, new: Any) -> None:
    """Put a function in the place of another one, in its module or class, if that still has it under its own name."""
    owner: Any = sys.modules.get(old.__module__)
    *classes, name = old.__qualname__.split(".")
    for each in classes:
        owner = getattr(owner, "__dict__", {}).get(each)
    if owner is not None and owner.__dict__.get(name) is old:
        setattr(owner, name, new)
