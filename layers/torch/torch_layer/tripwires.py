"""Touches of held modules that are no attribute of a module. Each has a tripwire, which completes the import.

A tripwire stays until everything has run, and `Completion.undo` takes it away. DESIGN.md ("Held modules") has the reasons.
"""

import sys
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch_layer.completion import Completion


def operators(completion: Completion, namespaces: Collection[str]) -> None:
    """`torch.ops.prims.add`: operators that held modules define, in these namespaces, are not there yet."""
    core: Any = sys.modules["torch._ops"]

    def watch(kind: Any, is_wanted: Callable[[Any], bool]) -> None:
        own = kind.__getattr__

        def __getattr__(namespace: Any, name: str) -> Any:  # noqa: N807
            try:
                return own(namespace, name)
            except AttributeError:
                done = completion.ready or completion.is_completing()
                if done or name.startswith("__") or not is_wanted(namespace):
                    raise
                completion.touched(namespace.__name__, name)
                return getattr(namespace, name)

        kind.__getattr__ = __getattr__
        completion.undo.append(lambda: setattr(kind, "__getattr__", own))

    watch(core._OpNamespace, lambda namespace: namespace.name in namespaces)
    watch(core._HigherOrderNamespace, lambda _namespace: True)


def meta_tensors(completion: Completion, factories: Iterable[str], native: Collection[str] = ()) -> None:
    """Held modules register Python kernels for the device "meta": a meta tensor needs them.

    Where there is no meta tensor yet, only a factory makes one. Each factory gets a kernel that completes the import, takes
    itself away and calls the operator again. The factories of `native` do without: their first call watches all operators but
    those of `native` in the same way, and then calls the operator again.
    """
    watch = _MetaOperators(completion)
    watch.complete_at(factory for factory in factories if factory not in native)
    for name in factories:
        if name in native:
            watch.open_at(name, native)


class _MetaOperators:
    """Kernels of operators for the device "meta", as long as held modules have not registered theirs."""

    def __init__(self, completion: Completion) -> None:
        self._core: Any = sys.modules["torch._C"]
        # Taken now: `registrations` puts others in their place.
        self._library = self._core._dispatch_library
        self._has_kernel = self._core._dispatch_has_kernel_for_dispatch_key
        self._completion = completion
        self._libraries: dict[str, Any] = {}  # by namespace
        self._opening: list[Any] = []  # the library of the factories that are native
        self._watched: set[str] = set()
        self._others: dict[str, Any] = {}  # the same, for the operators that are no factories
        completion.undo += [self._libraries.clear, self._opening.clear, self._others.clear]
        # Held modules register their own, and what they do to meta tensors meanwhile is as in stock torch.
        completion.steps.insert(0, self._others.clear)

    def complete_at(self, names: Iterable[str]) -> None:
        """Let the first call of one of these factories complete the import."""
        self._watch(names, self._libraries)

    def _watch(self, names: Iterable[str], libraries: dict[str, Any]) -> None:

        def watched(name: str) -> Callable[..., Any]:
            def kernel(*arguments: Any, **options: Any) -> Any:
                self._completion.touched(f"a meta tensor ({name})")
                return _operator(name)(*arguments, **options)

            return kernel

        with warnings.catch_warnings():
            # torch says so when a kernel takes the place of another one; this one gives it back.
            warnings.simplefilter("ignore")
            for name in names:
                namespace = name.partition("::")[0]
                if namespace not in libraries:
                    libraries[namespace] = self._library("IMPL", namespace, "Meta", __file__, 1)
                libraries[namespace].impl(name.partition("::")[2], "Meta", watched(name))
                self._watched.add(name)

    def open_at(self, name: str, native: Collection[str]) -> None:
        """Let the first call of a factory watch all operators but those of `native`, and run the factory's own kernel."""

        def kernel(*arguments: Any, **options: Any) -> Any:
            with self._completion.lock:  # while another thread completes the import, nothing more is watched
                if self._opening:
                    self._opening.clear()
                    if self._completion.is_idle():
                        self._watch_all_but(native)
            return _operator(name)(*arguments, **options)

        if not self._opening:
            self._opening.append(self._library("IMPL", "aten", "Meta", __file__, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._opening[0].impl(name.partition("::")[2], "Meta", kernel)

    def _watch_all_but(self, native: Collection[str]) -> None:
        """Operators that are made of others need not be watched: the others are."""
        skipped = {*native, *self._watched}
        names = [name for name in self._core._dispatch_get_all_op_names() if name not in skipped]
        self._watch([name for name in names if not self._has_kernel(name, "CompositeImplicitAutograd")], self._others)


def _operator(name: str) -> Any:
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    return getattr(getattr(getattr(sys.modules["torch"].ops, namespace), packet), overload or "default")


def arrays(completion: Completion) -> None:
    """`Tensor.numpy` makes an array in C code, without a look at NumPy's modules; arrays have methods written in Python."""
    kind: Any = sys.modules["torch._tensor"].Tensor
    own = kind.numpy

    def numpy(tensor: Any, *arguments: Any, **options: Any) -> Any:
        completion.touched("torch.Tensor", "numpy")
        return own(tensor, *arguments, **options)

    kind.numpy = numpy
    completion.undo.append(lambda: delattr(kind, "numpy"))
