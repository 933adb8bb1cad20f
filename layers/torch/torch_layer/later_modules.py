"""Later modules: modules of torch that `import torch` does not run, and that wait while libraries take names from them only.

Any use but that of a name which waits is a touch, an `import` statement of anything else too. A touch completes torch's import,
and runs the module. Any program may import these modules after torch, in any order; so each is run by itself.
"""

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from torch_layer.completion import Completion
from torch_layer.placeholders import OF_THE_CLASS, HoldingLoader, Placeholder, execute, listen, plain


class LaterModules:
    """The later modules that have been imported for their names only, in the order of these imports.

    Args:
        completion: of torch's import, which comes before any of them.

    Attributes:
        waiting: those that have not run.
    """

    def __init__(self, completion: Completion) -> None:
        self.waiting: dict[str, ModuleType] = {}
        self._completion = completion
        self._after: dict[str, list[Callable[[], None]]] = {}
        self._wanted: dict[int, str] = {}  # by thread: the module that it is importing for its names

    def hold_module(self, name: str) -> None:
        """Import a module, and its packages before it, so that they wait, if they are not there yet."""
        import_module(name.partition(".")[0])
        thread = threading.get_ident()
        self._wanted[thread] = name
        try:
            import_module(name)
        finally:
            del self._wanted[thread]

    def call_after(self, name: str, what: Callable[[], None]) -> None:
        """Call something when a module has run; at once if it is there and does not wait."""
        self.hold_module(name)
        if name in self.waiting:
            self._after.setdefault(name, []).append(what)
        else:
            what()

    def prepare(self, spec: Any) -> None:
        """Give a spec a loader that does not run the module, if it is to wait."""
        wanted = self._wanted.get(threading.get_ident())
        if wanted is None or not f"{wanted}.".startswith(f"{spec.name}.") or isinstance(spec.loader, HoldingLoader):
            return
        spec.loader = HoldingLoader(spec.loader, self)
        listen(spec, self)

    def run(self, name: str, reason: str) -> None:
        """Run a module that waits, and its packages before it, when everything that `import torch` runs in stock torch has run.

        What the module itself raises passes on; the next touch tries again.

        Raises:
            ImportError: torch's import could not be completed.
        """
        self._completion.complete(reason)
        with self._completion.lock:
            self._run(name)

    def _run(self, name: str) -> None:
        package, _, tail = name.rpartition(".")
        if package in self.waiting:
            self._run(package)
        module = self.waiting.pop(name, None)
        if module is None:
            return  # another thread has run it meanwhile, or its package has
        namespace, spec = plain(module, "__dict__"), plain(module, "__spec__")
        # In stock torch its submodules come after it, unless it imports them itself.
        children = {
            each.rpartition(".")[2]: each for each in self.waiting if each.rpartition(".")[0] == name
        }  # those that wait
        for child in children:
            namespace.pop(child, None)
        execute(module, self.waiting)
        ModuleType.__setattr__(module, "__class__", ModuleType)
        spec.__class__ = ModuleSpec
        for child, path in children.items():
            if path in self.waiting:
                namespace[child] = self.waiting[path]
        if package in sys.modules:
            # As the import system does after each module: what the package has bound to this name meanwhile gives way.
            setattr(sys.modules[package], tail, module)
        for call in self._after.pop(name, ()):
            call()

    # -- what placeholders report ----------------------------------------------------------------------------------------------

    def hold(self, module: ModuleType) -> None:
        """Keep a module instead of running it."""
        self.waiting[module.__name__] = module
        ModuleType.__setattr__(module, "__class__", Placeholder)

    def look(self, module: ModuleType, attribute: str) -> Any:
        """An attribute of a module that waits."""
        self.touch(module, attribute)
        if attribute in OF_THE_CLASS and attribute not in plain(module, "__dict__"):
            raise AttributeError(f"module {plain(module, '__name__')!r} has no attribute {attribute!r}")
        return plain(module, attribute)

    def touch(self, module: ModuleType, what: str) -> None:
        """A module that waits is used."""
        name = plain(module, "__name__")
        if name in self.waiting:
            self.run(name, f"{name}.{what}")
        with self._completion.lock:
            """Another thread may run it just now."""

    def was_present(self, package: ModuleType, attribute: str) -> bool:
        """Whether the import system must not bind a submodule: never."""
        return False

    def enter_package(self, module: ModuleType) -> None:
        """The import system looks for a submodule."""
        if threading.get_ident() not in self._wanted:
            self.touch(module, "__path__")

    def initializing(self, spec: ModuleSpec) -> bool:
        """An `import` statement met a module that waits."""
        if threading.get_ident() not in self._wanted:
            if spec.name in self.waiting:
                self.run(spec.name, f"import {spec.name}")
            with self._completion.lock:
                """Another thread may run it just now."""
        return bool(spec.__dict__.get("running", False))
