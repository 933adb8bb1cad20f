"""What stands for a held module until it runs: its class, its spec and its loader, which tell `Imports` of every touch."""

import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_layer.lazy import Imports

plain = ModuleType.__getattribute__
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


class Held(ModuleType):
    """The class of a module while it is held: whatever is asked of it beyond what the import system asks is a touch."""

    def __getattribute__(self, attribute: str) -> Any:
        if attribute not in _PROBES:
            return _imports_of(self).look(self, attribute)
        if attribute == "__path__":
            _imports_of(self).enter_package(self)
        return plain(self, attribute)

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


def _imports_of(module: ModuleType) -> "Imports":
    imports: Imports = plain(module, "__spec__").__dict__["imports"]
    return imports


def listen(spec: Any, imports: "Imports") -> Any:
    """The spec, which from now on tells `imports` of every `import` of its module."""
    spec.__dict__.pop("_initializing", None)  # the import system's own, if it is at this module just now
    spec.__dict__["imports"] = imports
    spec.__class__ = HeldSpec
    return spec


class HeldSpec(ModuleSpec):
    """Every `import` statement asks the spec of a module that is there whether it is still initializing: a place to listen."""

    @property
    def _initializing(self) -> bool:
        imports: Imports = self.__dict__["imports"]
        return imports.initializing(self)

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        pass


class Waiting:
    """A loader before another one, which does everything but running the module."""

    def __init__(self, real: Any, imports: "Imports") -> None:
        self.real, self._imports = real, imports

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        made: ModuleType | None = self.real.create_module(spec)
        return made


class Hold(Waiting):
    """Does not run the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Hold it."""
        self._imports.hold(module)


class Native(Waiting):
    """For a module written in C that NumPy's Python code prepares for, and completes."""

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
        if self._imports.holds() and not self._imports.is_lent and not self._imports.is_completing():
            self._imports.hold_native()


class Loaded(Waiting):
    """For a module that is there already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """That module."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""
        spec: Any = module.__spec__
        spec.loader = self.real


class Rewritten(Waiting):
    """Runs a module that the builder has rewritten."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it, with what it asks for deferred names."""
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.real
        self._imports.execute(module, lambda: self.real.exec_module(module))
