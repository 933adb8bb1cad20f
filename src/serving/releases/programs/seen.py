"""What torch itself read of a program, compared with the tables of operators. Runs in the process that tries a release.

The checks of the archive's bytes come first, so that torch's readers meet nothing that could harm them. This one closes
the circle: whatever way an operator has come into the program, it is found where torch would call it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.releases.programs import operators
from serving.releases.programs.refusal import Kind, ProgramError

if TYPE_CHECKING:
    import torch


def check(path: Path, kind: Kind) -> None:
    """Load a program with torch and look at every operator in it. Nothing of it is called.

    Raises:
        ProgramError: torch refuses the program, or found an operator in it that is not let through.
    """
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = (
                _of_export(torch.export.load(path))
                if kind == "torch.export"
                else _of_script(torch.jit.load(str(path), map_location="cpu"))
            )
            refused = next((name for name, allowed in found if not allowed), None)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ProgramError(f"is not loaded by torch: {lines[0][:300]}") from error
    if refused is not None:
        raise ProgramError(f"calls {refused} once torch has read it, which is not let through")


def _of_export(program: "torch.export.ExportedProgram") -> Iterator[tuple[str, bool]]:
    """Each operator of an exported program, and whether it is let through."""
    import torch

    for module in program.graph_module.modules():
        graph = getattr(module, "graph", None)
        for node in graph.nodes if isinstance(graph, torch.fx.Graph) else ():
            if node.op == "call_function":
                name = _target(node.target)
                yield name, operators.is_allowed_target(name)
            elif node.op in ("call_method", "call_module"):
                yield f"{node.op} {node.target}", False


def _target(target: Any) -> str:
    """The name of what a node calls, as it is written in a file."""
    import torch

    if isinstance(target, torch._ops.OpOverload):
        return f"torch.ops.{target}"
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"torch.ops.higher_order.{target.name()}"
    module = getattr(target, "__module__", "")
    return f"{'torch' if module.startswith('torch') else module}.{getattr(target, '__name__', target)}"


def _of_script(module: "torch.jit.ScriptModule") -> Iterator[tuple[str, bool]]:
    """Each operator of each method of a TorchScript program, and whether it is let through."""
    modules: list[Any] = [each._c for each in module.modules()]
    for each in modules:
        for name in each._method_names():
            yield from _of_block(each._get_method(name).inlined_graph, modules)


def _of_block(block: Any, modules: Sequence[Any]) -> Iterator[tuple[str, bool]]:
    for node in block.nodes():
        kind = node.kind()
        space, _, name = kind.partition("::")
        if space == "aten":
            overload = node.schema().partition("(")[0].partition(".")[2]
            allowed = operators.is_allowed(name) and operators.is_allowed_overload(overload)
            if f"{name}.{overload}" in operators.DIVISIONS:
                allowed = allowed and _divides_safely(node, modules)
                yield f"{kind} of numbers by what is not fixed, or is 0 or -1,", allowed
            else:
                yield kind, allowed
        elif kind == "prim::unchecked_cast":
            yield f"{kind} to {node.output().type()}", _takes_off_optional(node)
        elif kind == "prim::SetAttr":
            # Whole numbers of a module are fixed: divisions count on them.
            yield f"{kind} of a whole number", node.inputsAt(1).type().kind() not in ("IntType", "NumberType")
        else:
            yield kind, space == "prim" and operators.is_allowed_prim(name)
        for inner in node.blocks():
            yield from _of_block(inner, modules)


def _divides_safely(node: Any, modules: Sequence[Any]) -> bool:
    """Whether the divisor of whole numbers is fixed, and none with which the division can end the process.

    It is a constant, or an attribute that has a harmless value in each module with an attribute of that name.
    """
    divisor = node.inputsAt(1)
    made = divisor.node()
    if made.kind() == "prim::Constant":
        return divisor.toIValue() not in (None, 0, -1)
    if made.kind() != "prim::GetAttr":
        return False
    name = made.s("name")
    return all(each.getattr(name) not in (None, 0, -1) for each in modules if each.hasattr(name))


def _takes_off_optional(node: Any) -> bool:
    """Whether a cast only says that a value is not None. Any other would pass a value off as one of another class."""
    (value,) = node.inputs()
    given, made = value.type(), node.output().type()
    if given.kind() in ("OptionalType", "UnionType"):
        return bool(made.isSubtypeOf(given))
    # The caller's value, where a function was put in the place of its call. None as anything else ends in an error of
    # torch's.
    return given.kind() == "NoneType" or bool(given.isSubtypeOf(made))
