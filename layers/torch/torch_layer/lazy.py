"""Holds back modules that `import torch` runs but ordinary inference never uses, until one of them is touched.

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

VARIABLE = "TORCH_LAYER_IMPORTS"
# What the import system and `inspect` ask every module for without meaning to use it.
_PROBES = frozenset(
    [
        "__class__",
        "__spec__",
        "__path__",
        "__name__",
        "__loader__",
        "__file__",
        "__package__",
        "__cached__",
        "__wrapped__",
        "__warningregistry__",
    ]
)
_ROOT = "torch"
_plain = ModuleType.__getattribute__


class Plan(NamedTuple):
    """What the builder found out about a version of torch; it travels with the archive's index.

    Attributes:
        held: names of the held modules, in the order in which stock torch begins to run them.
        deferred: module -> name in it -> the held module (or one that defers the name itself) and the attribute it is taken from.
        early: Python text, run when `import torch` ends: what held modules do that ordinary inference needs done, and functions
            of theirs that do not need them.
        lifted: these functions, each as module and name.
        factories: operators `aten::name.overload` that make meta tensors out of no tensor.
        namespaces: operator namespaces that held modules define operators in.
    """

    held: tuple[str, ...]
    deferred: dict[str, dict[str, tuple[str, str]]]
    early: str
    lifted: tuple[tuple[str, str], ...]
    factories: tuple[str, ...]
    namespaces: tuple[str, ...]


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
    """The held modules of one torch.

    Args:
        plan: which they are.
        eager: hold nothing back.

    Attributes:
        ready: whether everything has run. Rewritten modules read it at every use of a deferred name.
    """

    def __init__(self, plan: Plan, *, eager: bool = False) -> None:
        self.ready = eager
        self._held = {} if eager else dict.fromkeys(plan.held)
        self._plan = plan
        self._modules: dict[str, ModuleType] = {}  # held, and not run yet
        self._lock = threading.RLock()
        self._owner: int | None = None  # the thread that completes the import
        self._reason = ""
        self._microseconds = 0
        self._stand_ins: list[tuple[str, str]] = []  # module and name
        self._restore: list[Callable[[], None]] = []
        os.register_at_fork(after_in_child=self._after_fork)

    # -- importing ---------------------------------------------------------------------------------------------------------

    def loader(self, spec: Any) -> Any:
        """The spec, changed where the module is held or was rewritten."""
        if spec.name in self._plan.deferred or spec.name == _ROOT:
            spec.loader = Rewritten(spec.loader, self)
        if spec.name in self._held and not self.ready:
            if self._owner == threading.get_ident() and spec.name in sys.modules:
                # Running the package has brought the module in, while the import system was on the way to it.
                spec.loader = _Loaded(spec.loader, self)
            else:
                spec.loader = _Hold(spec.loader, self)
            spec.__class__ = _HeldSpec
            spec.__dict__["imports"] = self
        return spec

    def execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        """Run a rewritten module, or the root: `run` executes its code in its globals."""
        if module.__name__ == _ROOT:
            # Importing makes objects that stay; looking for garbage among them, again and again, takes an eighth of the time.
            collects = gc.isenabled()
            gc.disable()
            try:
                self._execute(module, run)
            finally:
                if collects:
                    gc.enable()
            self._finish_start()
        else:
            self._execute(module, run)

    def _execute(self, module: ModuleType, run: Callable[[], None]) -> None:
        names = self._plan.deferred.get(module.__name__, {})
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
            self._restore.append(restore)

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
        exec(self._plan.early, namespace)  # noqa: S102 -- the builder took it from torch's own sources
        for origin in self._plan.lifted:
            self._stand_in(origin, namespace[origin[1]])
        self._watch_operators()
        self._watch_meta()

    def _stand_in(self, origin: tuple[str, str], function: Callable[..., Any]) -> None:
        """Let a function answer in its module, and in those that have taken it from there, until the module runs."""
        module, name = origin

        def stand_in(*arguments: Any, **options: Any) -> Any:
            # Whoever took it before the import was completed has it still.
            own = getattr(sys.modules[module], name) if self.ready else function
            return own(*arguments, **options)

        stand_in.__name__ = stand_in.__qualname__ = name
        if module in self._modules:
            _plain(self._modules[module], "__dict__")[name] = stand_in
        for other, names in self._plan.deferred.items():
            for each, taken in names.items():
                if taken == origin and other in sys.modules:
                    sys.modules[other].__dict__[each] = stand_in
                    self._stand_ins.append((other, each))

    # -- what rewritten modules call -------------------------------------------------------------------------------------------

    def defer(self, module: str, source: str) -> None:
        """Stands for `from source import ...`, of names that can wait: runs or holds `source`, as importing it would."""
        import_module(source)
        if self.ready:
            for name, (origin, _) in self._plan.deferred[module].items():
                if origin == source:
                    self._bind(module, name)

    def resolve(self, module: str, name: str) -> Any:
        """The value of a deferred name, which is needed now."""
        origin, attribute = self._plan.deferred[module][name]
        self.complete(f"{origin}.{attribute}")
        namespace = sys.modules[module].__dict__
        # While the import completes, its own modules ask too.
        return namespace[name] if name in namespace else self._bind(module, name)

    def _bind(self, module: str, name: str) -> Any:
        origin, attribute = self._plan.deferred[module][name]
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
            self._owner = threading.get_ident()
            try:
                for name in self._held:
                    import_module(name)
                while self._stand_ins:
                    module, name = self._stand_ins.pop()
                    del sys.modules[module].__dict__[name]
                for module, names in self._plan.deferred.items():
                    if module in sys.modules:
                        for each in names:
                            self._bind(module, each)
            except BaseException as error:
                raise ImportError(
                    f"the rest of torch could not be imported, which {reason} needs: {type(error).__name__}: {error}.\n"
                    f"Next: {VARIABLE}=eager runs everything when torch is imported, and shows whether the layer is at fault"
                ) from error
            finally:
                self._owner = None
            self.ready = True
            for undo in self._restore:
                undo()
            self._restore.clear()
            self._microseconds = round((time.perf_counter() - started) * 1e6)
            for name in self._held:
                ModuleType.__setattr__(sys.modules[name], "__class__", ModuleType)
                sys.modules[name].__spec__.__class__ = ModuleSpec

    def run(self, name: str) -> None:
        """Run one held module in its place, if it was not run yet. Only the thread that completes the import comes here."""
        package = name.rpartition(".")[0]
        if package in self._modules and name in self._modules:
            self.run(package)
        module = self._modules.pop(name, None)
        if module is None:
            return
        spec = _plain(module, "__spec__")
        loader: _Hold = spec.loader
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
        ModuleType.__setattr__(module, "__class__", _Held)
        if self._owner == threading.get_ident():
            self.run(name)

    def look(self, module: ModuleType, attribute: str) -> Any:
        """An attribute of a held module, beyond what the import system asks for."""
        name, namespace = _plain(module, "__name__"), _plain(module, "__dict__")
        child = f"{name}.{attribute}"
        if self._owner == threading.get_ident():
            self.run(name)
        elif self._owner is None and not self.ready:
            if attribute in namespace and attribute != "__dict__":
                return namespace[
                    attribute
                ]  # a submodule, which the import system has put there: that does not use either
            if child in self._held:
                # In stock torch it is there by now, since something has imported it.
                return import_module(child)
        self.complete(child)
        return _plain(module, attribute)

    def touch(self, module: ModuleType, what: str) -> None:
        """A held module is used otherwise than by reading an attribute."""
        name = _plain(module, "__name__")
        if self._owner == threading.get_ident():
            self.run(name)
        else:
            self.complete(f"{name}.{what}")

    def enter_package(self, module: ModuleType) -> None:
        """The import system looks for a submodule. That alone is no touch, but as the import completes, packages run first."""
        if self._owner == threading.get_ident():
            self.run(_plain(module, "__name__"))

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

    # -- touches that are no attribute of a module ----------------------------------------------------------------------------

    def _watch_operators(self) -> None:
        """`torch.ops.prims.add`: operators that held modules define are not there yet."""
        operators: Any = sys.modules["torch._ops"]

        def watch(kind: Any, wanted: Callable[[Any], bool]) -> None:
            own = kind.__getattr__

            def __getattr__(namespace: Any, name: str) -> Any:  # noqa: N807
                try:
                    return own(namespace, name)
                except AttributeError:
                    if (
                        self.ready
                        or self._owner == threading.get_ident()
                        or name.startswith("__")
                        or not wanted(namespace)
                    ):
                        raise
                    self.complete(f"{namespace.__name__}.{name}")
                    return getattr(namespace, name)

            kind.__getattr__ = __getattr__
            self._restore.append(lambda: setattr(kind, "__getattr__", own))

        watch(operators._OpNamespace, lambda namespace: namespace.name in self._plan.namespaces)
        watch(operators._HigherOrderNamespace, lambda _namespace: True)

    def _watch_meta(self) -> None:
        """Python kernels for the device "meta" are registered by held modules: the first meta tensor brings them.

        Where there is no meta tensor yet, only a factory makes one. Each gets a kernel that completes the import, takes itself
        away and calls the operator again.
        """
        core: Any = sys.modules["torch._C"]
        library = core._dispatch_library("IMPL", "aten", "Meta", __file__, 1)
        libraries = [library]
        self._restore.append(libraries.clear)

        def watch(name: str) -> None:
            def factory(*arguments: Any, **options: Any) -> Any:
                self.complete(f"a meta tensor ({name})")
                packet, _, overload = name.partition("::")[2].partition(".")
                operator = getattr(getattr(sys.modules["torch"].ops.aten, packet), overload or "default")
                return operator(*arguments, **options)

            library.impl(name, "Meta", factory)

        import warnings

        with warnings.catch_warnings():
            # torch says so when a kernel takes the place of another one; this one gives it back.
            warnings.simplefilter("ignore")
            for name in self._plan.factories:
                watch(name)


class _Held(ModuleType):
    """The class of a module while it is held: whatever is asked of it beyond what the import system asks is a touch."""

    def __getattribute__(self, attribute: str) -> Any:
        if attribute not in _PROBES:
            return _imports_of(self).look(self, attribute)
        if attribute == "__path__":
            _imports_of(self).enter_package(self)
        return _plain(self, attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        # The import system puts submodules here; everybody else changes what the module has, so it must be there first.
        if not isinstance(value, ModuleType) and attribute not in _PROBES:
            _imports_of(self).touch(self, attribute)
        ModuleType.__setattr__(self, attribute, value)

    def __delattr__(self, attribute: str) -> None:
        _imports_of(self).touch(self, attribute)
        ModuleType.__delattr__(self, attribute)

    def __dir__(self) -> Iterable[str]:
        _imports_of(self).touch(self, "__dir__()")
        return ModuleType.__dir__(self)


def _imports_of(module: ModuleType) -> Imports:
    imports: Imports = _plain(module, "__spec__").__dict__["imports"]
    return imports


class _HeldSpec(ModuleSpec):
    """Every `import` statement asks the spec of a module that is there whether it is still initializing: a place to listen."""

    @property
    def _initializing(self) -> bool:
        imports: Imports = self.__dict__["imports"]
        return imports.initializing(self)

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        pass


class _Loader:
    """A loader before another one, which does everything but running the module."""

    def __init__(self, real: Any, imports: Imports) -> None:
        self.real, self._imports = real, imports

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        made: ModuleType | None = self.real.create_module(spec)
        return made


class _Hold(_Loader):
    """Does not run the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Hold it."""
        self._imports.hold(module)


class _Loaded(_Loader):
    """For a module that is there already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """That module."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""
        spec: Any = module.__spec__
        spec.loader = self.real


class Rewritten(_Loader):
    """Runs a module that the builder has rewritten."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it, with what it asks for deferred names."""
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.real
        self._imports.execute(module, lambda: self.real.exec_module(module))


def is_eager(environment: "os._Environ[str]" = os.environ) -> bool:
    """Whether the user asked for everything at once. Raises ImportError for a value that means nothing."""
    value = environment.get(VARIABLE, "")
    if value in ("", "held"):
        return False
    if value == "eager":
        return True
    raise ImportError(f'{VARIABLE} is "{value}", and can be "held" (the default) or "eager".\nNext: unset it')
