"""Touches of held modules that are no attribute of a module: each has a wire that completes the import.

A watch stays until everything has run; `Imports.restore` takes it away. DESIGN.md, "Held modules", says why these are all.
"""

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_layer.lazy import Imports


def operators(imports: "Imports") -> None:
    """`torch.ops.prims.add`: operators that held modules define are not there yet."""
    core: Any = sys.modules["torch._ops"]

    def watch(kind: Any, wanted: Callable[[Any], bool]) -> None:
        own = kind.__getattr__

        def __getattr__(namespace: Any, name: str) -> Any:  # noqa: N807
            try:
                return own(namespace, name)
            except AttributeError:
                if imports.ready or imports.is_completing() or name.startswith("__") or not wanted(namespace):
                    raise
                imports.complete(f"{namespace.__name__}.{name}")
                return getattr(namespace, name)

        kind.__getattr__ = __getattr__
        imports.restore.append(lambda: setattr(kind, "__getattr__", own))

    watch(core._OpNamespace, lambda namespace: namespace.name in imports.plan.namespaces)
    watch(core._HigherOrderNamespace, lambda _namespace: True)


def meta_tensors(imports: "Imports") -> None:
    """Python kernels for the device "meta" are registered by held modules: the first meta tensor brings them.

    Where there is no meta tensor yet, only a factory makes one. Each gets a kernel that completes the import, takes itself
    away and calls the operator again.
    """
    core: Any = sys.modules["torch._C"]
    library = core._dispatch_library("IMPL", "aten", "Meta", __file__, 1)
    libraries = [library]
    imports.restore.append(libraries.clear)

    def watch(name: str) -> None:
        def factory(*arguments: Any, **options: Any) -> Any:
            imports.complete(f"a meta tensor ({name})")
            packet, _, overload = name.partition("::")[2].partition(".")
            operator = getattr(getattr(sys.modules["torch"].ops.aten, packet), overload or "default")
            return operator(*arguments, **options)

        library.impl(name, "Meta", factory)

    with warnings.catch_warnings():
        # torch says so when a kernel takes the place of another one; this one gives it back.
        warnings.simplefilter("ignore")
        for name in imports.plan.factories:
            watch(name)


def arrays(imports: "Imports") -> None:
    """Arrays are made by C code, without a look at NumPy's modules, and have methods that are written in Python.

    Torch's own makes one for `tensor.numpy()` only, but asks for NumPy's functions as soon as it makes a tensor of numbers.
    So it does this now; who asks for them later is somebody else.
    """
    imports.is_lent = True
    try:
        sys.modules["torch"].tensor(0)
    finally:
        imports.is_lent = False
    imports.hold_native()
    kind: Any = sys.modules["torch._tensor"].Tensor
    own = kind.numpy

    def numpy(tensor: Any, *arguments: Any, **options: Any) -> Any:
        imports.complete("torch.Tensor.numpy")
        return own(tensor, *arguments, **options)

    kind.numpy = numpy
    imports.restore.append(lambda: delattr(kind, "numpy"))
