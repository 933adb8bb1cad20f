"""What torch itself read of a program, compared with the tables of operators. Runs in the process that tries a release.

The checks of the archive's bytes come first, so that torch's readers meet nothing that could harm them. This one closes
the circle: whatever way an operator has come into the program, it is found where torch would call it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from serving.releases.programs import divisions, operators
from serving.releases.programs.divisions import ScriptDivisions
from serving.releases.programs.refusal import Kind, ProgramError

if TYPE_CHECKING:
    import torch


_DIVISOR: Final = "what is not a fixed number, or is 0 or -1 (whole numbers can end the process then),"


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
                if divisions.node_divides(node):
                    yield f"{name} by {_DIVISOR}", divisions.node_is_safe(node)
                plain = [node.kwargs[kind] for kind in _KINDS if isinstance(node.kwargs.get(kind), int)]
                yield f"{name} with a type or a layout that is a number", not plain
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
    graphs = [each._get_method(name).inlined_graph for each in modules for name in each._method_names()]
    checked = ScriptDivisions(modules, graphs)
    for graph in graphs:
        yield from _of_block(graph, checked)


def _of_block(block: Any, checked: ScriptDivisions) -> Iterator[tuple[str, bool]]:
    for node in block.nodes():
        kind = node.kind()
        space, _, name = kind.partition("::")
        if space == "aten":
            overload = node.schema().partition("(")[0].partition(".")[2]
            yield kind, operators.is_allowed(name) and operators.is_allowed_overload(overload)
            yield f"{kind} with a type or a layout that is not known", _knows_kinds(node)
            if checked.divides(node, name, overload):
                yield f"{kind} by {_DIVISOR}", checked.is_safe(node)
        elif kind == "prim::unchecked_cast":
            yield f"{kind} to {node.output().type()}", _takes_off_optional(node)
        elif kind == "prim::SetAttr":
            # Whole numbers of a module are fixed: divisions count on them.
            yield f"{kind} of a whole number", node.inputsAt(1).type().kind() not in ("IntType", "NumberType")
        else:
            yield kind, space == "prim" and operators.is_allowed_prim(name)
        for inner in node.blocks():
            yield from _of_block(inner, checked)


# torch takes these arguments as plain numbers, and does not compare them with what there is (c10/core/ScalarType.h, Layout.h,
# MemoryFormat.h): types of one number each, tensors without gaps, and the four orders of dimensions.
_KINDS: Final[Mapping[str, frozenset[int]]] = {
    "dtype": frozenset((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 15)),
    "layout": frozenset((0,)),
    "memory_format": frozenset((0, 1, 2, 3)),
}
_ASKED: Final = ("prim::dtype", "prim::layout", "aten::result_type", "aten::promote_types")


def _knows_kinds(node: Any) -> bool:
    """Whether types, layouts and memory formats that are given to an operator are ones that there are."""
    import torch

    arguments = torch._C.parse_schema(node.schema()).arguments
    for argument, given in zip(arguments, node.inputs(), strict=False):
        value = given
        known = _KINDS.get(argument.name)
        while value.node().kind() in ("prim::unchecked_cast", "prim::unchecked_unwrap_optional"):
            value = value.node().inputsAt(0)
        made = value.node()
        if known is None or argument.type.kind() == "TensorType" or made.kind() in _ASKED:
            continue
        if made.kind() != "prim::Constant" or value.toIValue() not in (None, *known):
            return False
    return True


def _takes_off_optional(node: Any) -> bool:
    """Whether a cast only says that a value is not None. Any other would pass a value off as one of another class."""
    (value,) = node.inputs()
    given, made = value.type(), node.output().type()
    if given.kind() in ("OptionalType", "UnionType"):
        return bool(made.isSubtypeOf(given))
    # The caller's value, where a function was put in the place of its call. None as anything else ends in an error of
    # torch's.
    return given.kind() == "NoneType" or bool(given.isSubtypeOf(made))
