"""Whether each row of `rules` fits the sources of a torch: what a new version changed, without an import of it.

A search would come upon most misfits one after the other, hours apart. Some it never would: a row about a module or a class that
is gone would do nothing.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from builder.errors import BuildError
from builder.python.deferred import candidates, defer, eager, library_rules, planning, rules
from builder.python.deferred.sources import SourceTree

_FILE = "builder/python/deferred/rules.py"


class CheckedRow(NamedTuple):
    """One row of a table, held against the sources.

    Attributes:
        table: The table's name, `EAGER_STATEMENTS`.
        row: What the row is about, `torch.jit._trace.is_tracing`.
        problem: Why it does not fit; empty if it fits.
        skipped: Why it was not held against anything; empty if it was.
    """

    table: str
    row: str
    problem: str = ""
    skipped: str = ""


def checked_rows(sources: SourceTree) -> list[CheckedRow]:
    """Every row about torch, in the order of the tables."""
    found: list[CheckedRow] = []
    for table, of_row in _TABLES.items():
        for rule in getattr(library_rules if table == "LIBRARY_CLASSES" else rules, table):
            row = CheckedRow(table, _title(rule))
            versions: rules.Versions = getattr(rule, "versions", rules.EVERY)
            if not versions.has(sources.torch):
                found.append(row._replace(skipped=f"for torch {versions}"))
                continue
            found.append(row._replace(problem=next(of_row(rule, sources), "")))
    return found


def require_fitting(sources: SourceTree) -> None:
    """Refuse sources that a row does not fit.

    Raises:
        BuildError: It names every such row.
    """
    if bad := [row for row in checked_rows(sources) if row.problem]:
        listed = "".join(f"\n  {row.table}, {row.row}: {row.problem}" for row in bad)
        raise BuildError(
            f"{len(bad)} rows of {_FILE} do not fit this torch:{listed}",
            "change these rows, or give them the versions that they are for (`Versions`). Until then, build with "
            "--eager-imports, which holds nothing back",
        )


def checked_numpy_rows(sources: SourceTree) -> list[CheckedRow]:
    """Every row about NumPy, held against its sources."""
    rows = [_numpy_row("NUMPY_PREPARES", rules.NUMPY_PREPARES, partial(planning.require_prepared, sources))]
    for rule in rules.CONSTANTS:
        rows.append(_numpy_row("CONSTANTS", f"{rule.module}.{rule.name}", partial(planning.constant, sources, rule)))
    return rows


def _numpy_row(table: str, row: str, question: Callable[[], object]) -> CheckedRow:
    try:
        question()
    except BuildError as error:
        return CheckedRow(table, row, error.cause)
    except KeyError as gone:
        return CheckedRow(table, row, f"there is no module {gone}")
    return CheckedRow(table, row)


def _title(rule: object) -> str:
    module, pattern = getattr(rule, "module", ""), getattr(rule, "pattern", "")
    tail = getattr(rule, "function", "") or getattr(rule, "name", "")
    if line := getattr(rule, "line", ""):
        return f"{module}: {line}"
    if lines := getattr(rule, "lines", ()):
        return f"{module}.{tail}" if tail else f"{module}: {lines[-1]}"
    return f"{module}.{tail}" if tail else module or pattern


def _pattern(rule: rules.Pattern | rules.SeparableModules, sources: SourceTree) -> Iterator[str]:
    if not any(re.fullmatch(rule.pattern, name) for name in sources):
        yield "no module has such a name"


def _eager(rule: rules.EagerStatement | rules.CopiedFunction, sources: SourceTree) -> Iterator[str]:
    if rule.module not in sources:
        yield "torch has no such module"
        return
    try:
        eager.eager_text(sources, rule)
    except BuildError as error:
        yield error.cause


def _class(rule: rules.ClassWithoutInstances, sources: SourceTree) -> Iterator[str]:
    if rule.module not in sources:
        yield "torch has no such module"
        return
    classes = {each.name: each for each in sources.module(rule.module).parse().body if isinstance(each, ast.ClassDef)}
    if rule.name not in classes:
        yield "the module has no such class"
        return
    for keyword in classes[rule.name].keywords:
        meta = classes.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else None
        if keyword.arg == "metaclass" and meta is not None and "__instancecheck__" in _functions(meta.body):
            yield f"its metaclass {meta.name} answers isinstance() by itself"


def _answer(rule: rules.StubbedAnswer, sources: SourceTree) -> Iterator[str]:
    if rule.module not in sources:
        yield "torch has no such module"
    elif defer.function_at(sources.module(rule.module).parse(), rule.function) is None:
        yield "the module has no such function"


def _deferred(rule: rules.DeferredStatement, sources: SourceTree) -> Iterator[str]:
    if rule.module not in sources:
        yield "torch has no such module"
        return
    try:
        candidates.names_bound(sources.module(rule.module), (rule.line,))
    except ValueError as error:
        yield str(error)


def _at_fork(rule: rules.AtFork, sources: SourceTree) -> Iterator[str]:
    del sources
    if find_spec(rule.module) is None:
        yield "Python has no such module"


def _functions(body: list[ast.stmt]) -> set[str]:
    return {each.name for each in body if isinstance(each, ast.FunctionDef)}


_TABLES: dict[str, Callable[..., Iterator[str]]] = {
    "NEVER": _pattern,
    "PLAIN": _pattern,
    "SEPARABLE": _pattern,
    "CLASSES_WITHOUT_INSTANCES": _class,
    "LIBRARY_CLASSES": _class,
    "EAGER_STATEMENTS": _eager,
    "COPIED_FUNCTIONS": _eager,
    "STUBBED_ANSWERS": _answer,
    "DEFERRED_STATEMENTS": _deferred,
    "AT_FORK": _at_fork,
}
