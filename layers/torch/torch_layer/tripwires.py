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


def meta_tensors(completion: Completion, factories: Iterable[str]) -> None:
    """Held modules register Python kernels for the device "meta": the first meta tensor needs them.

    Where there is no meta tensor yet, only a factory makes one. Each factory gets a kernel that completes the import, takes
    itself away and calls the operator again.
    """
    core: Any = sys.modules["torch._C"]
    library = core._dispatch_library("IMPL", "aten", "Meta", __file__, 1)
    libraries = [library]
    completion.undo.append(libraries.clear)

    def watch(name: str) -> None:
        def factory(*arguments: Any, **options: Any) -> Any:
            completion.touched(f"a meta tensor ({name})")
            packet, _, overload = name.partition("::")[2].partition(".")
            operator = getattr(getattr(sys.modules["torch"].ops.aten, packet), overload or "default")
            return operator(*arguments, **options)

        library.impl(name, "Meta", factory)

    with warnings.catch_warnings():
        # torch says so when a kernel takes the place of another one; this one gives it back.
        warnings.simplefilter("ignore")
        for name in factories:
            watch(name)


def arrays(completion: Completion) -> None:
    """`Tensor.numpy` makes an array in C code, without a look at NumPy's modules; arrays have methods written in Python."""
    kind: Any = sys.modules["torch._tensor"].Tensor
    own = kind.numpy

    def numpy(tensor: Any, *arguments: Any, **options: Any) -> Any:
        completion.touched("torch.Tensor", "numpy")
        return own(tensor, *arguments, **options)

    kind.numpy = numpy
    completion.undo.append(lambda: delattr(kind, "numpy"))
