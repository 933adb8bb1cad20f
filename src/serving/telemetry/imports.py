"""Times imports while the function starts: `import torch` and a few more are phases of the start's receipt."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Module to phase.
TIMED_IMPORTS = {
    "pydantic": "pydantic",
    "boto3": "boto3",
    "torch": "torch",
    "torch._C": "dlopen",
    "numpy": "numpy",
    "model": "model",
}


class ImportClock:
    """A meta path finder that finds nothing itself.

    It asks the other finders for the modules that it knows, and times their loading.

    Args:
        timer: gives a context manager that times its body as the named phase.
        names: module to phase. Each module is timed once.
    """

    def __init__(self, timer: Callable[[str], Any], names: Mapping[str, str]) -> None:
        self._timer = timer
        self._waiting = dict(names)

    def begin(self) -> None:
        """Enter the import system, ahead of all other finders."""
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Leave the import system."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`: the spec of a module to time, and None for all others."""
        name = self._waiting.pop(fullname, None)
        if name is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._time(spec.loader, name)
                return spec
        return None

    def _time(self, loader: Any, name: str) -> None:
        """Let this one loader report when it starts and ends.

        `create_module` loads an extension module, so both count.
        """
        timer, create, execute = self._timer, loader.create_module, loader.exec_module

        def timed_create(spec: ModuleSpec) -> Any:
            with timer(name):
                return create(spec)

        def timed_execute(module: ModuleType) -> None:
            # From here on the loader is the module's own again, without a trace of the clock.
            del loader.create_module, loader.exec_module
            with timer(name):
                execute(module)

        loader.create_module, loader.exec_module = timed_create, timed_execute
