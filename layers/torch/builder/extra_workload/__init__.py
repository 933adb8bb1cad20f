"""The workload of packages that a user adds to the layer: what a first answer with them runs.

The builder records which modules it imports, keeps their bytecode, and compares its answers on the staged and on the
finished tree. Every packed package is imported. Those of `PROGRAMS` do more, because importing them runs little.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple


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
