"""Divisions of whole numbers: the processor ends the process where the least number is divided by -1, and plain numbers by 0.

torch checks tensors for zeros and nothing for -1. An input may hold any number, so a divisor must be known: a fixed number
that is neither, or a size of a tensor, which is never negative. Where torch computes with fractions nothing can happen,
but whether it does so can depend on the input.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

# The operators, in all their forms; the divisor is the second argument. `div` divides whole numbers only with a mode.
DIVISIONS: Final = frozenset(("floor_divide", "remainder", "fmod", "floordiv", "div", "divide"))
_WITH_MODE: Final = frozenset(("div", "divide"))
_MODE: Final = "rounding_mode"
# What -1 looks like in 32 bits, as which torch may take a number.
_LOW_BITS: Final = 0xFFFFFFFF
# Operators that read a tensor and make another: after them it is as it was, and nothing else leads to it.
_READING: Final = frozenset(
    ("add", "sub", "rsub", "mul", "true_divide", "eq", "ne", "lt", "le", "gt", "ge", "Int", "Float", "item", *DIVISIONS)
)
# Overloads of plain numbers, of which at least one is a fraction: floats divide without harm.
_FRACTIONS: Final = frozenset(("float", "int_float", "float_int"))


def divides(name: str, overload: str, modes: Iterable[Any]) -> bool:
    """Whether an operator of aten can divide whole numbers.

    Args:
        name: without the namespace.
        overload: of the operator.
        modes: the rounding modes that are given to it.
    """
    base = name.removesuffix("_")
    if base not in DIVISIONS or overload in _FRACTIONS:
        return False
    return base not in _WITH_MODE or any(mode is not None for mode in modes)


def is_harmless(divisor: Any) -> bool:
    """Whether dividing any whole number by this one number cannot end the process."""
    if isinstance(divisor, float | complex):
        return True
    return isinstance(divisor, int) and divisor != 0 and divisor & _LOW_BITS != _LOW_BITS


def node_divides(node: Any) -> bool:
    """Whether a node of an exported graph can divide whole numbers."""
    target = node.target
    name, _, overload = str(target).removeprefix("aten.").partition(".")
    modes = [node.kwargs.get(_MODE), *node.args[2:]]
    return divides(name, "" if overload == "default" else overload, modes)


def node_is_safe(node: Any) -> bool:
    """Whether such a node has a divisor with which it cannot end the process."""
    divisor = node.args[1] if len(node.args) > 1 else node.kwargs.get("other", node.kwargs.get("b"))
    return is_harmless(divisor)


class ScriptDivisions:
    """Looks at the divisions of a TorchScript program.

    Args:
        modules: all modules of the program.
        graphs: all graphs of their methods.
    """

    def __init__(self, modules: Sequence[Any], graphs: Iterable[Any]) -> None:
        self._modules = modules
        # Tensors that are more than read: an operator in place could change their numbers.
        self._changeable: Collection[int] = frozenset(
            _storage(node.output().toIValue())
            for graph in graphs
            for node in graph.findAllNodes("prim::Constant", recurse=True)
            if node.output().type().kind() == "TensorType" and not all(map(_is_read, node.output().uses()))
        )

    def divides(self, node: Any, name: str, overload: str) -> bool:
        """Whether a node that calls `aten::name` can divide whole numbers."""
        arguments = list(node.inputs())
        # A mode that is not fixed counts as one.
        return divides(name, overload, (_constant(value, "not fixed") for value in arguments[2:]))

    def is_safe(self, node: Any) -> bool:
        """Whether such a node has a divisor with which it cannot end the process."""
        divisor = node.inputsAt(1)
        made = divisor.node()
        if made.kind() == "prim::Constant":
            return self._is_safe_constant(divisor.toIValue())
        if made.kind() == "prim::GetAttr":
            return self._is_safe_attribute(made.s("name"), divisor)
        # Tracing writes the size of a tensor like this. torch itself refuses a tensor with zeros.
        return bool(made.kind() == "prim::NumToTensor" and made.inputsAt(0).node().kind() == "aten::size")

    def _is_safe_constant(self, value: Any) -> bool:
        import torch

        if not isinstance(value, torch.Tensor):
            return is_harmless(value)
        return _storage(value) not in self._changeable and all(map(is_harmless, value.flatten().tolist()))

    def _is_safe_attribute(self, name: str, divisor: Any) -> bool:
        """Whole numbers of a module never change (see `seen`); its tensors may."""
        if divisor.type().kind() == "TensorType":
            return False
        return all(is_harmless(each.getattr(name)) for each in self._modules if each.hasattr(name))


def _is_read(use: Any) -> bool:
    space, _, name = use.user.kind().partition("::")
    return space == "aten" and name in _READING


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _constant(value: Any, otherwise: Any) -> Any:
    return value.toIValue() if value.node().kind() == "prim::Constant" else otherwise
