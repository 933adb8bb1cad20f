"""Objects that statements of a module fill, and that are used later or never: the statements wait for the first use.

`REGISTRY.register("name", Value(...))` needs the class `Value` when the module is imported. As long as nothing uses
`REGISTRY`, the statement can wait, and the class with it. Until then the object has a class that notices every use. A question
whether it has one of the keys is answered: yes.
"""

from collections.abc import Callable
from typing import Any

_WATCHED = (
    "__getattribute__", "__setattr__", "__delattr__", "__getitem__", "__setitem__", "__delitem__", "__iter__", "__len__",
    "__bool__", "__call__", "__eq__", "__hash__", "__repr__", "__reversed__", "__or__", "__ror__", "__ior__", "__dir__",
)  # fmt: skip


class FilledObjects:
    """The objects whose statements wait.

    Args:
        lock: a thread has it while it runs such statements.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._waiting: dict[int, _Filling] = {}  # by the object's identity

    def defer(self, target: Any, statement: Callable[[], None], keys: tuple[str, ...]) -> None:
        """Let a statement wait that fills `target` with these keys."""
        with self._lock:
            filling = self._waiting.get(id(target))
            if filling is None:
                filling = self._waiting[id(target)] = _Filling(target)
                target.__class__ = _watching(type(target), self)
            filling.statements.append(statement)
            filling.keys.update(dict.fromkeys(keys))

    def has_key(self, target: Any, key: object) -> bool:
        """Whether a statement that waits gives the object this key."""
        filling = self._waiting.get(id(target))
        return filling is not None and isinstance(key, str) and key in filling.keys

    def fill(self, target: Any) -> None:
        """Run the statements of an object, in their order. What they raise passes on; the next use goes on from there."""
        with self._lock:
            filling = self._waiting.get(id(target))
            if filling is None or filling.is_running:
                return
            filling.is_running = True
            try:
                while filling.statements:
                    filling.statements[0]()
                    del filling.statements[0]
            finally:
                filling.is_running = False
            del self._waiting[id(target)]
            object.__setattr__(target, "__class__", filling.own_class)

    def fill_all(self) -> None:
        """Run all statements that wait."""
        for filling in list(self._waiting.values()):
            self.fill(filling.target)


class _Filling:
    def __init__(self, target: Any) -> None:
        self.target = target
        self.own_class = type(target)
        self.statements: list[Callable[[], None]] = []
        self.keys: dict[str, None] = {}
        self.is_running = False


def _watching(own: type, objects: FilledObjects) -> type:
    """A class like `own` whose objects are filled at their first use."""

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def use(target: Any, *arguments: Any) -> Any:
            objects.fill(target)
            return method(target, *arguments)

        use.__name__ = name
        return use

    def __contains__(target: Any, key: object) -> bool:  # noqa: N807
        if objects.has_key(target, key):
            return True
        objects.fill(target)
        return key in target

    methods = {name: watched(name, getattr(own, name)) for name in _WATCHED if hasattr(own, name)}
    if hasattr(own, "__contains__"):
        methods["__contains__"] = __contains__
    own_attributes = methods["__getattribute__"]

    def __getattribute__(target: Any, name: str) -> Any:  # noqa: N807
        return own if name == "__class__" else own_attributes(target, name)

    methods["__getattribute__"] = __getattribute__
    return type(own.__name__, (own,), methods | {"__module__": own.__module__, "__qualname__": own.__qualname__})
