"""Held modules: the empty module objects that stand for them, and how each is run in its place.

A placeholder is in `sys.modules` from the start. Its class, its spec and its loader notice every use. DESIGN.md, "Held modules",
says what a touch is and why none is missed.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from torch_layer.completion import Completion

plain = ModuleType.__getattribute__
# What the import system and `inspect` ask every module for without meaning to use it.
_PROBES = frozenset([
    "__class__", "__spec__", "__path__", "__name__", "__loader__", "__file__", "__package__", "__cached__", "__wrapped__",
    "__warningregistry__",
])  # fmt: skip
# What a module has before it runs, and what it will have is something else.
_UNKNOWN = frozenset(["__dict__", "__doc__"])


class PlaceholderKeeper:
    """The held modules of one package.

    Args:
        completion: every touch goes there, and it has the modules run.
        held: names of the held modules, in stock order.
        native: modules written in C of which any use is a touch, from `hold_native` on.
        rebound: held modules that are no attributes of their packages.
        constants: held module -> names in it and their values, which can be read without a touch.
        separable: held modules that run by themselves when they are touched.

    Attributes:
        held: names of the held modules.
        waiting: those that have been imported and have not run.
        is_lent: torch's C code looks at `native` for itself, which is no touch.
    """

    def __init__(
        self,
        completion: Completion,
        held: Iterable[str],
        native: Iterable[str] = (),
        rebound: Iterable[str] = (),
        constants: Mapping[str, Mapping[str, str]] = {},
        separable: Iterable[str] = (),
    ) -> None:
        self.completion = completion
        self.held = dict.fromkeys(held)
        self.waiting: dict[str, ModuleType] = {}
        self.is_lent = False
        self._present: set[str] = set()
        self._native, self._rebound, self._constants = native, frozenset(rebound), constants
        self._separable = frozenset(separable)
        completion.steps.append(self._run_all)
        completion.undo.append(self._release)

    def hold(self, module: ModuleType) -> None:
        """Keep a module instead of running it."""
        name = module.__name__
        self.waiting[name] = module
        module.__dict__.update(self._constants.get(name, {}))
        ModuleType.__setattr__(module, "__class__", Placeholder)
        if self.completion.is_completing():
            self.run(name)

    def hold_native(self) -> None:
        """Make any use of the native modules a touch.

        One that is not there yet gets an empty module in its place, since C code fills the module that it finds.
        """
        for name in self._native:
            package, _, tail = name.rpartition(".")
            if package not in sys.modules:
                continue
            module = sys.modules.get(name)
            if module is None:
                module = sys.modules[name] = ModuleType(name)
                plain(sys.modules[package], "__dict__")[tail] = module
            spec = module.__spec__
            module.__spec__ = listen(ModuleSpec(name, None) if spec is None else spec, self)
            module.__class__ = Placeholder

            def restore(module: ModuleType = module, spec: ModuleSpec | None = spec) -> None:
                ModuleType.__setattr__(module, "__class__", ModuleType)
                if spec is not None:
                    spec.__class__ = ModuleSpec
                module.__spec__ = spec

            self.completion.undo.append(restore)

    def run(self, name: str) -> None:
        """Run a held module in its place, and its package before it, if that was not done yet.

        Only the thread that completes the import may do this, or a trial.
        """
        package = name.rpartition(".")[0]
        if package in self.waiting and name in self.waiting:
            self.run(package)
        self.run_alone(name)

    def run_alone(self, name: str) -> None:
        """The same, without its package."""
        module = self.waiting.pop(name, None)
        if module is None:
            return
        execute(module, self.waiting)

    def run_separately(self, name: str) -> bool:
        """Run a module and leave the others waiting. False if it is none for which the plan allows that.

        Another thread that touches the module meanwhile waits here. What the module raises passes on; the next touch tries again.
        """
        if name not in self._separable or self.completion.ready:
            return False
        with self.completion.lock:
            if name in self.waiting:
                module = self.waiting[name]
                self.run_alone(name)
                ModuleType.__setattr__(module, "__class__", ModuleType)
        return True

    def placeholder(self, name: str) -> ModuleType | None:
        """A held module, though nothing but held modules may import it; None if it has run."""
        if name in self.held:
            import_module(name)
        return self.waiting.get(name)

    def look(self, module: ModuleType, attribute: str) -> Any:
        """An attribute of a held module, beyond what the import system asks for."""
        name, namespace = plain(module, "__name__"), plain(module, "__dict__")
        child = f"{name}.{attribute}"
        if self.completion.is_completing():
            self.run(name)
        elif self.completion.is_idle() and child not in self._rebound:
            if attribute in namespace and attribute not in _UNKNOWN and name in self.waiting:
                # A submodule, which the import system has put there, a copied function or a constant: that uses nothing else.
                return namespace[attribute]
            if child in self.held:
                # In stock torch it is there by now, since something has imported it.
                with self.completion.lock:
                    return import_module(child)
        if not self.run_separately(name):
            self.completion.touched(name, attribute)
        if attribute in OF_THE_CLASS and attribute not in namespace:
            # C code that makes classes takes this for the name of the module in which they are.
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return plain(module, attribute)

    def touch(self, module: ModuleType, what: str) -> None:
        """A held module is used otherwise than by reading an attribute."""
        name = plain(module, "__name__")
        if self.completion.is_completing():
            self.run(name)
        elif not self.run_separately(name):
            self.completion.touched(name, what)

    def find_child(self, package: str, attribute: str) -> ModuleType | None:
        """A submodule of a package that runs, which nothing has imported yet; None while the import completes, as in stock."""
        if self.completion.is_completing():
            return None
        if not self.completion.is_idle():
            self.completion.complete()
        return import_module(f"{package}.{attribute}")

    def add_present(self, name: str) -> None:
        """A module was there when the import system found it. Stock's import system does not come this far, and binds nothing."""
        self._present.add(name)

    def was_present(self, package: ModuleType, attribute: str) -> bool:
        """Whether the import system is about to bind such a module to its package."""
        name = f"{plain(package, '__name__')}.{attribute}"
        found = name in self._present
        self._present.discard(name)
        return found

    def enter_package(self, module: ModuleType) -> None:
        """The import system looks for a submodule. That alone is no touch, but as the import completes, packages run first."""
        if self.completion.is_completing():
            self.run(plain(module, "__name__"))

    def initializing(self, spec: ModuleSpec) -> bool:
        """`import` met a held module in `sys.modules`. That alone is no touch, but as the import completes, order counts."""
        if self.completion.is_completing():
            if spec.name in self.waiting:
                self.run(spec.name)
        elif not self.completion.is_idle():
            self.completion.complete()
        return bool(spec.__dict__.get("running", False))

    def _run_all(self) -> None:
        for name in self.held:
            import_module(name)

    def _release(self) -> None:
        for name in self.held:
            ModuleType.__setattr__(sys.modules[name], "__class__", ModuleType)
            sys.modules[name].__spec__.__class__ = ModuleSpec


def execute(module: ModuleType, waiting: dict[str, ModuleType]) -> None:
    """Run a module in its place, with its own loader. If it fails, it waits again."""
    spec = plain(module, "__spec__")
    loader: HoldingLoader = spec.loader
    spec.loader, spec.__dict__["running"] = loader.real, True
    ModuleType.__setattr__(module, "__loader__", loader.real)
    try:
        loader.real.exec_module(module)
    except BaseException:
        spec.loader = loader
        waiting[spec.name] = module
        raise
    finally:
        spec.__dict__["running"] = False


class Placeholder(ModuleType):
    """The class of a module while it is held: whatever is asked of it beyond what the import system asks is a touch."""

    def __getattribute__(self, attribute: str) -> Any:
        if attribute not in _PROBES:
            return _keeper(self).look(self, attribute)
        if attribute == "__path__":
            _keeper(self).enter_package(self)
        return plain(self, attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        # The import system puts submodules here. All others change what the module has, so it must be there first.
        if isinstance(value, ModuleType):
            if _keeper(self).was_present(self, attribute):
                return
        elif attribute not in _PROBES:
            _keeper(self).touch(self, attribute)
        ModuleType.__setattr__(self, attribute, value)

    def __delattr__(self, attribute: str) -> None:
        _keeper(self).touch(self, attribute)
        ModuleType.__delattr__(self, attribute)

    def __dir__(self) -> Iterable[str]:
        _keeper(self).touch(self, "__dir__()")
        return ModuleType.__dir__(self)


# What modules have only because of this class, `__module__` for one.
OF_THE_CLASS = frozenset(vars(Placeholder)) - frozenset(vars(ModuleType))


def _keeper(module: ModuleType) -> PlaceholderKeeper:
    keeper: PlaceholderKeeper = plain(module, "__spec__").__dict__["keeper"]
    return keeper


def listen(spec: Any, keeper: Any) -> Any:
    """The spec, which from now on reports every `import` of its module to `keeper`."""
    spec.__dict__.pop("_initializing", None)  # the import system's own, if it is at this module just now
    spec.__dict__["keeper"] = keeper
    spec.__class__ = PlaceholderSpec
    return spec


class PlaceholderSpec(ModuleSpec):
    """Every `import` statement asks the spec of a module that is there whether it is still initializing: a place to listen."""

    @property
    def _initializing(self) -> bool:
        keeper: PlaceholderKeeper = self.__dict__["keeper"]
        return keeper.initializing(self)

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        pass


class WrappedLoader:
    """A loader before another one, which does everything but running the module."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        made: ModuleType | None = self.real.create_module(spec)
        return made


class HoldingLoader(WrappedLoader):
    """Does not run the module; `keeper` is a `PlaceholderKeeper`, or does as one."""

    def __init__(self, real: Any, keeper: Any) -> None:
        super().__init__(real)
        self._keeper = keeper

    def exec_module(self, module: ModuleType) -> None:
        """Hold it."""
        self._keeper.hold(module)


class PresentLoader(WrappedLoader):
    """For a module that is there already."""

    def __init__(self, real: Any, keeper: PlaceholderKeeper) -> None:
        super().__init__(real)
        self._keeper = keeper

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """That module."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""
        spec: Any = module.__spec__
        spec.loader = self.real
        self._keeper.add_present(spec.name)


class NativeLoader(WrappedLoader):
    """For a module written in C that NumPy's Python code prepares for, and completes."""

    def __init__(self, real: Any, keeper: PlaceholderKeeper) -> None:
        super().__init__(real)
        self._keeper = keeper

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """That module, loaded in the environment that `numpy._core` makes for it (and takes away again)."""
        added = "OPENBLAS_MAIN_FREE" not in os.environ
        if added:
            os.environ["OPENBLAS_MAIN_FREE"] = "1"
        try:
            return super().create_module(spec)
        finally:
            if added:
                del os.environ["OPENBLAS_MAIN_FREE"]

    def exec_module(self, module: ModuleType) -> None:
        """Run it. From now on any use of it is a touch, unless it is torch's while it is imported."""
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.real
        self.real.exec_module(module)
        completion = self._keeper.completion
        if not completion.ready and not completion.is_completing() and not self._keeper.is_lent:
            self._keeper.hold_native()
