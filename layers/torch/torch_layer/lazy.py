"""Holds back modules that `import torch` runs but ordinary inference never uses, until one of them is touched.

NumPy's modules are held likewise, apart from torch's: torch needs of NumPy what is written in C.

A held module is in `sys.modules` from the start, as an empty module object. The first touch of any of them, by whatever means,
completes the import: all of them run, in the order in which stock torch runs them, each in the module object that was there all
along. So there are two states only, "ordinary inference works" and "everything is as in stock torch", and import cycles come
undone as they do in stock. DESIGN.md, "Held modules", says what a touch is and why nothing is missed.

Where a module that runs takes names from a held one (`from torch.fx import Graph`), the builder has rewritten it
(`builder/lazy/rewrite.py`): it asks the object `_torch_layer` in its globals, an `Imports`, for these names when it needs them.

All of it runs before torch at every cold start: nothing is imported that torch does not import.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

from torch_layer import watches
from torch_layer.held import Held, Hold, Loaded, Native, Rewritten, listen, plain

VARIABLE = "TORCH_LAYER_IMPORTS"
# What a module has before it runs, and what it will have is something else.
_UNKNOWN = frozenset(["__dict__", "__doc__"])


class Plan(NamedTuple):
    """What the builder found out about a version of a package; it travels with the archive's index.

    Attributes:
        root: `torch` or `numpy`.
        held: names of the held modules, in the order in which stock torch begins to run them.
        deferred: module -> name in it -> the held module (or one that defers the name itself) and the attribute it is taken from.
        early: Python text, run when `import torch` ends: what held modules do that ordinary inference needs done, and functions
            of theirs that do not need them.
        lifted: these functions, each as module and name.
        factories: operators `aten::name.overload` that make meta tensors out of no tensor.
        namespaces: operator namespaces that held modules define operators in.
        later: module -> names in it that statements bind which wait, although the module runs.
        native: modules written in C of which any use is a touch: those that held modules of torch make inside `torch._C`, and
            NumPy's own, which torch has used before.
        constants: held module -> names in it and their values, which can be read without a touch.
    """

    root: str
    held: tuple[str, ...]
    deferred: dict[str, dict[str, tuple[str, str]]]
    early: str
    lifted: tuple[tuple[str, str], ...]
    factories: tuple[str, ...]
    namespaces: tuple[str, ...]
    later: dict[str, tuple[str, ...]]
    native: tuple[str, ...]
    constants: dict[str, dict[str, str]]


class Stats(NamedTuple):
    """What became of the held modules so far, in this process.

    Attributes:
        held: how many modules are held back by this layer.
        complete: whether all of them have run.
        reason: what completed the import: `torch.export.export`, `asked for`, ...; empty if nothing did.
        microseconds: how long that took.
    """

    held: int
    complete: bool
    reason: str
    microseconds: int


class Imports:
    """The held modules of one package.

    Args:
        plan: which they are.
        eager: hold nothing back.
        before: those of another package, which are completed first.

    Attributes:
        plan: which they are.
        ready: whether everything has run. Rewritten modules read it at every use of a deferred name.
        is_lent: torch's C code makes itself acquainted with `plan.native`, which is no touch.
    """

    def __init__(self, plan: Plan, *, eager: bool = False, before: "Imports | None" = None) -> None:
        self.ready = eager
        self.plan = plan
        self.is_lent = False
        self.restore: list[Callable[[], None]] = []  # what is undone when everything has run
        self._before = before
        self._held = {} if eager else dict.fromkeys(plan.held)
        self._modules: dict[str, ModuleType] = {}  # held, and not run yet
        self._later: dict[
            str, list[tuple[Callable[[], None], tuple[str, ...]]]
        ] = {}  # statements, and the names they bind
        self._lock = threading.RLock()
        self._owner: int | None = None  # the thread that completes the import
        self._reason = ""
        self._microseconds = 0
        self._stand_ins: list[tuple[str, str]] = []  # module and name
        os.register_at_fork(after_in_child=self._after_fork)

    # -- importing ---------------------------------------------------------------------------------------------------------

    def loader(self, spec: Any, *, is_entered: bool = False) -> Any:
        """The spec, changed where the module is held or was rewritten. `is_entered`: a stub of it is running now."""
        if spec.name in self.plan.native:
            spec.loader = Native(spec.loader, self)
        if spec.name in self.plan.deferred or spec.name == "torch":
            spec.loader = Rewritten(spec.loader, self)
        if spec.name in self._held and not self.ready:
            if self.is_completing() and spec.name in sys.modules and not is_entered:
                # Running the package has brought the module in, while the import system was on the way to it.
                spec.loader = Loaded(spec.loader, self)
            else:
                spec.loader = Hold(spec.loader, self)
            listen(spec, self)
        return spec

    def execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        """Run a rewritten module, or the root: `run` executes its code in its globals."""
        if module.__name__ == "torch":
            # Functions are looked up in libraries when they are called first; all at once takes a twentieth of the import.
            flags = sys.getdlopenflags()
            sys.setdlopenflags(flags & ~os.RTLD_NOW | os.RTLD_LAZY)
            # Importing makes objects that stay; looking for garbage among them, again and again, takes an eighth of the time.
            collects = gc.isenabled()
            gc.disable()
            try:
                self._execute(module, run)
            finally:
                sys.setdlopenflags(flags)
                if collects:
                    gc.enable()
                    # All that was made is young, and the next object would have it looked through. These two calls move it
                    # to the oldest generation without a look, unless the program keeps objects frozen of its own.
                    if not gc.get_freeze_count():
                        gc.freeze()
                        gc.unfreeze()
            self._finish_start()
        else:
            self._execute(module, run)

    def _execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        names = {*self.plan.deferred.get(module.__name__, ()), *self.plan.later.get(module.__name__, ())}
        namespace = module.__dict__
        namespace["_torch_layer"] = self
        if self.ready or not names:
            run()
            return
        first = self._missing(module.__name__, namespace, names, None)
        namespace["__getattr__"] = first
        run()
        own = namespace["__getattr__"]
        if own is not first:
            namespace["__getattr__"] = self._missing(module.__name__, namespace, names, own)

        def restore() -> None:
            if own is first:
                del namespace["__getattr__"]
            else:
                namespace["__getattr__"] = own

        if self.ready:
            restore()
        else:
            self.restore.append(restore)

    def _missing(
        self, name: str, namespace: dict[str, Any], names: Iterable[str], own: Callable[[str], Any] | None
    ) -> Callable[[str], Any]:
        """A module's `__getattr__` (PEP 562) for names that others take from it before it has them."""

        def __getattr__(attribute: str) -> Any:  # noqa: N807
            if attribute in names and attribute not in namespace:
                return self.resolve(name, attribute)
            if own is not None:
                return own(attribute)
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

        return __getattr__

    def _finish_start(self) -> None:
        """When `import torch` ends: what held modules do that cannot wait, and the wires that tell of their first use."""
        if self.ready or self._reason or not self._held:
            return
        namespace: dict[str, Any] = {}
        exec(self.plan.early, namespace)  # noqa: S102 -- the builder took it from torch's own sources
        for origin in self.plan.lifted:
            self._stand_in(origin, namespace[origin[1]])
        self.hold_native()
        watches.operators(self)
        watches.meta_tensors(self)
        if self._before is not None and self._before.holds():
            watches.arrays(self._before)

    def hold_native(self) -> None:
        """Make any use of `plan.native` a touch. One that is not there yet is put in its place: C code fills what it finds."""
        for name in self.plan.native:
            package, _, tail = name.rpartition(".")
            if package not in sys.modules:
                continue
            module = sys.modules.get(name)
            if module is None:
                module = sys.modules[name] = ModuleType(name)
                plain(sys.modules[package], "__dict__")[tail] = module
            spec = module.__spec__
            module.__spec__ = listen(ModuleSpec(name, None) if spec is None else spec, self)
            module.__class__ = Held

            def restore(module: ModuleType = module, spec: ModuleSpec | None = spec) -> None:
                ModuleType.__setattr__(module, "__class__", ModuleType)
                if spec is not None:
                    spec.__class__ = ModuleSpec
                module.__spec__ = spec

            self.restore.append(restore)

    def _stand_in(self, origin: tuple[str, str], function: Callable[..., Any]) -> None:
        """Let a function answer in its module, and in those that have taken it from there, until the module runs."""
        module, name = origin

        def stand_in(*arguments: Any, **options: Any) -> Any:
            # Whoever took it before the import was completed has it still.
            own = getattr(sys.modules[module], name) if self.ready else function
            return own(*arguments, **options)

        stand_in.__name__ = stand_in.__qualname__ = name
        if module in self._modules:
            plain(self._modules[module], "__dict__")[name] = stand_in
        for other, names in self.plan.deferred.items():
            for each, taken in names.items():
                if taken == origin and other in sys.modules:
                    sys.modules[other].__dict__[each] = stand_in
                    self._stand_ins.append((other, each))

    # -- what rewritten modules call -------------------------------------------------------------------------------------------

    def defer(self, module: str, source: str) -> None:
        """Stands for `from source import ...`, of names that can wait: runs or holds `source`, as importing it would."""
        import_module(source)
        if self.ready:
            for name, (origin, _) in self.plan.deferred[module].items():
                if origin == source:
                    self._bind(module, name)

    def resolve(self, module: str, name: str) -> Any:
        """The value of a deferred name, which is needed now."""
        namespace = sys.modules[module].__dict__
        if name not in namespace:
            if name in self.plan.later.get(module, ()):
                self._run_later(module, name)
            else:
                origin, attribute = self.plan.deferred[module][name]
                self.complete(f"{origin}.{attribute}")
        # While the import completes, its own modules ask too.
        return namespace[name] if name in namespace else self._bind(module, name)

    def later(self, module: str, statement: Callable[[], None], *names: str) -> None:
        """Stands for a statement of a module's body that can wait; `statement` runs it, which binds these names of the module."""
        if self.ready:
            statement()
        else:
            self._later.setdefault(module, []).append((statement, names))

    def _run_later(self, module: str, name: str) -> None:
        with self._lock:
            for each in self._later.get(module, ()):
                if name in each[1]:
                    self._run_statement(module, *each)
                    self._later[module].remove(each)
                    break

    @staticmethod
    def _run_statement(module: str, statement: Callable[[], None], names: Iterable[str]) -> None:
        namespace = sys.modules[module].__dict__
        given = {name: namespace[name] for name in names if name in namespace}
        statement()
        namespace.update(given)  # what somebody has set meanwhile, a test's mock, say

    def _bind(self, module: str, name: str) -> Any:
        origin, attribute = self.plan.deferred[module][name]
        value = getattr(import_module(origin), attribute)
        sys.modules[module].__dict__.setdefault(name, value)
        return value

    def born(self, module: str, name: str) -> Any:
        """The class of a held module, to be asked whether something is its instance; no class at all before the module has run.

        `isinstance(x, ())` is false, and so is what it stands for: of a class that was never made there are no instances.
        """
        return getattr(import_module(module), name) if self.ready or self._owner is not None else ()

    # -- completing --------------------------------------------------------------------------------------------------------

    def complete(self, reason: str = "asked for") -> None:
        """Run every held module, if that was not done. Other threads that touch one meanwhile wait.

        Raises:
            ImportError: a module failed; the next touch tries again.
        """
        if self.ready or self._owner == threading.get_ident():
            return
        with self._lock:
            if self.ready:
                return
            started = time.perf_counter()
            self._reason = self._reason or reason
            if self._before is not None:
                self._before.complete(reason)
            self._owner = threading.get_ident()
            try:
                for name in self._held:
                    import_module(name)
                while self._stand_ins:
                    module, name = self._stand_ins.pop()
                    del sys.modules[module].__dict__[name]
                for module, names in self.plan.deferred.items():
                    if module in sys.modules:
                        for each in names:
                            self._bind(module, each)
                for module, statements in self._later.items():
                    while statements:
                        self._run_statement(module, *statements[0])
                        del statements[0]
            except BaseException as error:
                raise ImportError(
                    f"the rest of {self.plan.root} could not be imported, which {reason} needs: "
                    f"{type(error).__name__}: {error}.\n"
                    f"Next: {VARIABLE}=eager runs everything when torch is imported, and shows whether the layer is at fault"
                ) from error
            finally:
                self._owner = None
            self.ready = True
            for undo in self.restore:
                undo()
            self.restore.clear()
            for name in self._held:
                ModuleType.__setattr__(sys.modules[name], "__class__", ModuleType)
                sys.modules[name].__spec__.__class__ = ModuleSpec
            self._microseconds = round((time.perf_counter() - started) * 1e6)

    def holds(self) -> bool:
        """Whether there are modules that have not run."""
        return bool(self._held) and not self.ready

    def is_completing(self) -> bool:
        """Whether this very thread runs the held modules at the moment."""
        return self._owner == threading.get_ident()

    def run(self, name: str) -> None:
        """Run one held module in its place, if it was not run yet. Only the thread that completes the import comes here."""
        package = name.rpartition(".")[0]
        if package in self._modules and name in self._modules:
            self.run(package)
        self.run_alone(name)

    def run_alone(self, name: str) -> None:
        """The same, but not its package before it."""
        module = self._modules.pop(name, None)
        if module is None:
            return
        spec = plain(module, "__spec__")
        loader: Hold = spec.loader
        spec.loader = loader.real
        ModuleType.__setattr__(module, "__loader__", loader.real)
        try:
            spec.__dict__["running"] = True
            loader.real.exec_module(module)
        except BaseException:
            spec.loader = loader
            self._modules[name] = module
            raise
        finally:
            spec.__dict__["running"] = False

    def hold(self, module: ModuleType) -> None:
        """Keep a module instead of running it."""
        name = module.__name__
        self._modules[name] = module
        module.__dict__.update(self.plan.constants.get(name, {}))
        ModuleType.__setattr__(module, "__class__", Held)
        if self._owner == threading.get_ident():
            self.run(name)

    def look(self, module: ModuleType, attribute: str) -> Any:
        """An attribute of a held module, beyond what the import system asks for."""
        name, namespace = plain(module, "__name__"), plain(module, "__dict__")
        child = f"{name}.{attribute}"
        if self._owner == threading.get_ident():
            self.run(name)
        elif self._owner is None and not self.ready:
            if attribute in namespace and attribute not in _UNKNOWN and name not in self.plan.native:
                # A submodule, which the import system has put there, a stand-in or a constant: that uses nothing else.
                return namespace[attribute]
            if child in self._held:
                # In stock torch it is there by now, since something has imported it.
                return import_module(child)
        self.complete(child)
        return plain(module, attribute)

    def touch(self, module: ModuleType, what: str) -> None:
        """A held module is used otherwise than by reading an attribute."""
        name = plain(module, "__name__")
        if self._owner == threading.get_ident():
            self.run(name)
        else:
            self.complete(f"{name}.{what}")

    def enter_package(self, module: ModuleType) -> None:
        """The import system looks for a submodule. That alone is no touch, but as the import completes, packages run first."""
        if self._owner == threading.get_ident():
            self.run(plain(module, "__name__"))

    def initializing(self, spec: ModuleSpec) -> bool:
        """`import` met a held module in `sys.modules`. That alone is no touch, but as the import completes, order counts."""
        if self._owner == threading.get_ident():
            if spec.name in self._modules:
                self.run(spec.name)
        elif self._owner is not None:
            self.complete()
        return bool(spec.__dict__.get("running", False))

    def stats(self) -> Stats:
        """What became of the held modules so far."""
        return Stats(len(self._held), self.ready, self._reason, self._microseconds)

    def _after_fork(self) -> None:
        # The thread that completed the import may not exist in the child, which then does it again from where it was.
        self._lock = threading.RLock()
        if self._owner != threading.get_ident():
            self._owner = None


def both(numpy: Plan, torch: Plan) -> tuple[Imports, Imports]:
    """The held modules of both packages, as the environment asks for. Raises ImportError for a value that means nothing."""
    eager = is_eager()
    first = Imports(numpy, eager=eager)
    return first, Imports(torch, eager=eager, before=first)


def is_eager(environment: "os._Environ[str]" = os.environ) -> bool:
    """Whether the user asked for everything at once. Raises ImportError for a value that means nothing."""
    value = environment.get(VARIABLE, "")
    if value in ("", "held"):
        return False
    if value == "eager":
        return True
    raise ImportError(f'{VARIABLE} is "{value}", and can be "held" (the default) or "eager".\nNext: unset it')
