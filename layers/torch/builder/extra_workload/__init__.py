"""The workload of packages that a user adds to the layer: what a first answer with them runs.

The builder records which modules it imports, keeps their bytecode, and compares its answers on the staged and on the
finished tree. Every packed package is imported. Those of `PROGRAMS` do more, because importing them runs little.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from builder import attributes
from builder.python.deferred import library_rules


class ExtraProgram(NamedTuple):
    """What is done with a package beside importing it.

    Attributes:
        module: the module of this package with the functions `make(folder)`, which writes a model, and `use(folder)`,
            which gives its answers as text by name.
        needs: the other packages that it imports.
        reason: why importing the package is not enough.
    """

    module: str
    needs: tuple[str, ...]
    reason: str


PROGRAMS: Mapping[str, ExtraProgram] = {
    "transformers": ExtraProgram(
        "builder.extra_workload.text_models", ("tokenizers",), "it imports a model's modules when the model is loaded"
    ),
}


def make(folder: Path, packages: list[str]) -> None:
    """Write the models of these packages."""
    for _name, program in _programs(packages):
        _function(program, "make")(folder)


def use(folder: Path, packages: list[str]) -> dict[str, str]:
    """Import each package, and run its program. The answers, or the kinds of errors, by name.

    Args:
        folder: where `make` has written models.
        packages: packed packages.
    """
    answers: dict[str, str] = {}
    for name in packages:
        try:
            import_module(name)
            answers[f"import {name}"] = "done"
        except Exception as error:  # whatever it raises, it must raise on both trees
            answers[f"import {name}"] = type(error).__name__
    for _name, program in _programs(packages):
        answers |= _function(program, "use")(folder)
    return answers


def left_behind(packages: list[str]) -> dict[str, str]:
    """What the workload leaves behind when nothing waits any more, by name: attributes of modules, operators, pytree nodes.

    Attributes are described by their kinds, and functions and classes by their qualified names.

    Args:
        packages: packed packages.
    """
    import torch

    finder = sys.modules.get("torch_layer.finder")
    if finder is not None:
        finder.complete_imports()
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in packages and type(module) is ModuleType:
            kinds = {each: _kind(value) for each, value in vars(module).items() if each not in attributes.LEFT_OUT}
            found[f"attributes of {name}"] = repr(sorted(kinds.items()))
    for row in library_rules.FILLED_OBJECTS:
        if row.module in sys.modules:
            found[f"keys of {row.module}.{row.name}"] = repr(list(getattr(sys.modules[row.module], row.name)))
    found["operators"] = repr(sorted(torch._C._dispatch_get_all_op_names()))
    nodes = torch.utils._pytree.SUPPORTED_NODES
    found["pytree nodes"] = repr(sorted(f"{each.__module__}.{each.__qualname__}" for each in nodes))
    return found


def _kind(value: Any) -> str:
    plain = type(value) in (str, int, float, bool, bytes, tuple, frozenset)
    return type(value).__name__ if plain else attributes.describe(value, "")


def _programs(packages: list[str]) -> list[tuple[str, ExtraProgram]]:
    from importlib.util import find_spec

    return [
        (name, program)
        for name, program in sorted(PROGRAMS.items())
        if name in packages and all(find_spec(each) is not None for each in program.needs)
    ]


def _function(program: ExtraProgram, name: str) -> Callable[[Path], dict[str, str]]:
    function: Callable[[Path], dict[str, str]] = getattr(import_module(program.module), name)
    return function
