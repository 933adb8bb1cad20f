"""Calls that modules of added packages make when they are imported, and that wait until torch's import is complete.

A layer without such packages does not import this.
"""

import sys
from collections.abc import Callable
from typing import Any

from torch_layer.imports import Imports


class WaitingCalls:
    """The calls that wait, in their order.

    Args:
        torch: how torch is imported.
        eager: none waits.

    Attributes:
        ready: none waits any more.
    """

    def __init__(self, torch: Imports, *, eager: bool) -> None:
        self.ready = eager
        self._torch = torch
        self._calls: list[Callable[[], Any]] = []
        if not eager:
            torch.completion.undo.append(self._call_all)

    def puts_off(self, module: str, function: str, *arguments: Any) -> bool:
        """Whether a call of a function waits until torch's import is complete. It is made then."""
        if self._runs_at_once():
            return False
        self._calls.append(lambda: getattr(sys.modules[module], function)(*arguments))
        return True

    def defer_operators(self, statement: Callable[[], None], *operators: str) -> None:
        """Stands for statements that define these operators, `namespace::name`: they run when the import is complete.

        To look up an operator of their namespaces that is not defined completes it. So none of them may be there already.
        """
        is_there = sys.modules["torch._C"].__dict__["_dispatch_has_kernel"]
        if self._runs_at_once() or any(map(is_there, operators)):
            statement()
            return
        self._torch.operator_namespaces.update(each.partition("::")[0] for each in operators)
        self._calls.append(statement)

    def note_in_body(self, module: str, path: str, name: str = "") -> Any:
        """Stands for a call of a function in a module's body with the name of a function, or without one for the decorator."""

        def note(function: Any) -> Any:
            self.note_in_body(module, path, function.__name__)
            return function

        if not name:
            return note

        def call() -> None:
            # Code of this kind is a module's body for who asks.
            exec(f"{path}({name!r})", sys.modules[module].__dict__)  # noqa: S102 -- the builder took it from there

        if self._runs_at_once():
            call()
        else:
            self._calls.append(call)
        return None

    def _runs_at_once(self) -> bool:
        return self.ready or self._torch.completion.ready or self._torch.completion.is_completing()

    def _call_all(self) -> None:
        while self._calls:
            self._calls.pop(0)()
