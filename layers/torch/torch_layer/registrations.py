"""Runs static initialisers of torch that the loader does not call, when something needs what they register.

They register all kernels for some dispatch keys (builder/native/late_initialisers.py has the table). Until then an operator
has no kernel for such a key. There are two ways to notice: a key comes into use, or a program looks at what is registered.
Each of the functions of `_GATES` is one or the other. So each runs the initialisers first.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

from torch_layer.completion import Completion

# Object -> its functions. torch/_C/__init__.pyi and torch/_C/_functorch.pyi have them; a version of torch may lack some.
_GATES = {
    # a key comes into use
    "torch": ("_add_batch_dim", "_enable_functionalization", "_to_functional_tensor"),
    "torch._C": (
        "_create_function_from_trace",
        "_create_function_from_trace_with_dict",
        "_create_graph_by_tracing",
        "_dispatch_tls_set_dispatch_key_included",
        "_set_tracing_state",
        "_vmapmode_increment_nesting",
        # a program looks at what is registered, or registers kernels, which come after torch's own
        "_dispatch_check_all_invariants",
        "_dispatch_check_invariants",
        "_dispatch_dump",
        "_dispatch_dump_table",
        "_dispatch_find_dangling_impls",
        "_dispatch_get_computed_kernel_for_dispatch_key",
        "_dispatch_get_registrations_for_dispatch_key",
        "_dispatch_has_backend_fallback",
        "_dispatch_has_computed_kernel_for_dispatch_key",
        "_dispatch_has_kernel_for_any_dispatch_key",
        "_dispatch_has_kernel_for_dispatch_key",
        "_dispatch_kernel_for_dispatch_key_is_fallthrough",
        "_dispatch_library",
        "_dispatch_print_registrations_for_dispatch_key",
    ),
    "torch._C.ScriptModule": ("_create_method_from_trace", "_create_method_from_trace_with_dict"),
    "torch._C._ForceDispatchKeyGuard": ("__init__",),
    "torch._C._IncludeDispatchKeyGuard": ("__init__",),
    "torch._C._functorch": ("_add_batch_dim", "_func_increment_nesting", "_vmap_increment_nesting"),
    "torch.ops": ("load_library",),
    "torch.classes": ("load_library",),
}


_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  pathlib is slow


class LateRegistrations:
    """The initialisers that wait.

    Args:
        completion: the state of torch's import. Completing it runs the initialisers first. They do not complete it.
        plan: `Plan.registrations`; empty if nothing waits.
    """

    def __init__(self, completion: Completion, plan: dict[str, Any]) -> None:
        self._completion, self._plan = completion, plan
        self.is_waiting = bool(plan)
        self._is_running = False
        self._gates: list[tuple[Any, str, Any, Any]] = []
        if plan:
            completion.steps.insert(0, self.run)

    def libraries_are_loaded(self) -> None:
        """Run them now if nothing is held back. Otherwise `watch` follows."""
        if self._completion.ready:
            self.run()

    def watch(self) -> None:
        """When `import torch` ends: run the initialisers as soon as something may need them."""
        for place, names in _GATES.items() if self.is_waiting else ():
            owner: Any = sys.modules["torch"]
            for part in place.split(".")[1:]:
                owner = getattr(owner, part, None)
            for name in names if owner is not None else ():
                if (own := getattr(owner, name, None)) is not None:
                    self._put_gate(owner, name, own)

    def _put_gate(self, owner: Any, name: str, own: Callable[..., Any]) -> None:
        def gate(*arguments: Any, **options: Any) -> Any:
            self.run()
            return own(*arguments, **options)

        gate.__name__ = gate.__qualname__ = name
        gate.__doc__, gate.__wrapped__ = own.__doc__, own  # type: ignore[attr-defined]
        before = vars(owner).get(name)  # None: it is a method of the object's class
        setattr(owner, name, gate)
        self._gates.append((owner, name, gate, before))

    def run(self) -> None:
        """Run the initialisers, if that was not done. Other threads that need them meanwhile wait."""
        if not self.is_waiting:
            return
        with self._completion.lock:
            if not self.is_waiting or self._is_running:
                return
            self._is_running = True
            library = ctypes.CDLL(f"{_ROOT}/{self._plan['library']}", mode=os.RTLD_LAZY)
            known = ctypes.cast(getattr(library, self._plan["symbol"]), ctypes.c_void_p).value or 0
            initialiser = ctypes.CFUNCTYPE(None)
            for address in self._plan["addresses"]:
                initialiser(known - self._plan["symbol_address"] + address)()
            self.is_waiting = False
            for owner, name, gate, before in self._gates:
                if vars(owner).get(name) is not gate:
                    continue  # a program has put something else there
                if before is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
            self._gates.clear()
