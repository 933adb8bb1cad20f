"""From a list of held modules to what the layer needs at run time."""

import ast
import builtins
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from builder.errors import BuildError
from builder.python.deferred import defer, rules
from builder.python.deferred.defer import Module
from torch_layer.lazy import Plan

Deferred = dict[str, dict[str, tuple[str, str]]]
UNBORN = frozenset((rule.module, rule.name) for rule in rules.UNBORN)


class Held(NamedTuple):
    """What a profile says of held modules; nothing is held if it is empty.

    Attributes:
        modules: the held ones, in the order in which stock torch begins to run them.
        running: those that `import torch` runs all the same, in the order in which it does.
        factories: operators that make meta tensors out of no tensor.
        namespaces: operator namespaces that held modules define operators in.
        native: modules inside `torch._C` that held modules make.
        numpy: NumPy's held modules, in the order in which it begins to run them.
    """

    modules: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    factories: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    native: tuple[str, ...] = ()
    numpy: tuple[str, ...] = ()


class Sources:
    """The Python modules of a tree's packages that may take part.

    Args:
        tree: a folder of packages.
        packages: which of them.
    """

    def __init__(self, tree: Path, packages: Sequence[str] = rules.PACKAGES) -> None:
        self._tree = tree
        paths = [path for package in packages for path in sorted((tree / package).rglob("*.py"))]
        self._paths = {self._name(path): path for path in paths}
        self._deferrable: dict[str, dict[str, tuple[str, str]]] = {}
        self._asks: dict[str, bool] = {}

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self._tree).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def module(self, name: str) -> Module:
        """A module, read."""
        path = self._paths[name]
        return Module(name, path.name == "__init__.py", path.read_bytes())

    def path(self, name: str) -> str:
        """Where it lies in the tree."""
        return self._paths[name].relative_to(self._tree).as_posix()

    def deferrable(self, name: str) -> dict[str, tuple[str, str]]:
        """`defer.deferrable` of a module, looked for once."""
        if name not in self._deferrable:
            module = self.module(name)
            alone = rules.is_left_alone(module.source)
            found = {} if alone else defer.deferrable(module, self.__contains__, lines_of_later(name))
            self._deferrable[name] = {
                bound: origin for bound, origin in found.items() if origin[0].split(".")[0] in rules.PACKAGES
            }
        return self._deferrable[name]

    def asks_for_unborn(self, name: str) -> bool:
        """`defer.asks_for_unborn` of a module, looked for once."""
        if name not in self._asks:
            module = self.module(name)
            named = any(rule.name.encode() in module.source for rule in rules.UNBORN)
            alone = rules.is_left_alone(module.source)
            self._asks[name] = named and not alone and defer.asks_for_unborn(module, UNBORN)
        return self._asks[name]


def everything(sources: Sources, order: Iterable[str], held: Iterable[str]) -> Plan:
    """A plan that defers whatever can wait, held or not: for finding out what is used."""
    deferred = {name: sources.deferrable(name) for name in order}
    later = _later(sources, deferred)
    return Plan(
        "torch", tuple(held), _rewritable(sources, deferred), early(sources), _lifted(sources), (), (), later, (), {}
    )


def make(sources: Sources, held: Held) -> Plan:
    """The plan for these held modules.

    Raises:
        BuildError: they do not fit the sources.
    """
    if not held.modules:
        return Plan("torch", (), {}, "", (), (), (), {}, (), {})
    missing = [name for name in (*held.modules, *held.running) if name not in sources]
    if missing:
        raise BuildError(f"the profile names modules that torch does not have: {', '.join(missing[:5])}", _NEXT)
    waiting = frozenset(held.modules)
    deferred: Deferred = {name: {} for name in held.running}
    # A name may come by way of a module that defers it itself, so this is repeated until nothing is added.
    grown = True
    while grown:
        grown = False
        for name in held.running:
            for bound, (origin, attribute) in sources.deferrable(name).items():
                if bound not in deferred[name] and (origin in waiting or attribute in deferred.get(origin, {})):
                    deferred[name][bound] = (origin, attribute)
                    grown = True
    return Plan(
        "torch",
        held.modules,
        _rewritable(sources, deferred),
        early(sources),
        _lifted(sources),
        held.factories,
        held.namespaces,
        _later(sources, deferred),
        held.native,
        {},
    )


def of_numpy(sources: Sources, modules: Sequence[str]) -> Plan:
    """The plan for these held modules of NumPy.

    Raises:
        BuildError: NumPy is not made as the rules say any more.
    """
    if not modules:
        return Plan("numpy", (), {}, "", (), (), (), {}, (), {})
    if rules.NUMPY_PREPARES not in sources.module("numpy._core").source.decode():
        raise BuildError(
            f"numpy._core has no line {rules.NUMPY_PREPARES!r} any more (builder/python/deferred/rules.py)", _NEXT
        )
    constants = {rule.module: {rule.name: _constant(sources, rule)} for rule in rules.CONSTANTS}
    return Plan("numpy", tuple(modules), {}, "", (), (), (), {}, (rules.NUMPY_NATIVE,), constants)


def _constant(sources: Sources, rule: rules.Constant) -> str:
    for node in ast.parse(sources.module(rule.origin).source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        if [ast.unparse(each) for each in node.targets] == [rule.original] and isinstance(node.value.value, str):
            return node.value.value
    raise BuildError(
        f"{rule.origin} does not set {rule.original} to a text (CONSTANTS in builder/python/deferred/rules.py)", _NEXT
    )


def _rewritable(sources: Sources, deferred: Deferred) -> Deferred:
    """Without the modules in which there is nothing to defer."""
    answering = {rule.module for rule in rules.ANSWERS} | {rule.module for rule in rules.LATER}
    return {
        name: names for name, names in deferred.items() if names or name in answering or sources.asks_for_unborn(name)
    }


def lines_of_later(name: str) -> tuple[str, ...]:
    """The first lines of the statements of a module that wait."""
    return tuple(rule.line for rule in rules.LATER if rule.module == name)


def _later(sources: Sources, running: Iterable[str]) -> dict[str, tuple[str, ...]]:
    modules = dict.fromkeys(rule.module for rule in rules.LATER)
    try:
        return {
            name: defer.names_bound_later(sources.module(name), lines_of_later(name))
            for name in running
            if name in modules
        }
    except ValueError as error:
        raise BuildError(
            f"a statement cannot wait: {error} (LATER in builder/python/deferred/rules.py)", _NEXT
        ) from error


def _lifted(sources: Sources) -> tuple[tuple[str, str], ...]:
    return tuple((rule.module, rule.function) for rule in rules.LIFTED if rule.module in sources)


def early(sources: Sources) -> str:
    """The statements of `rules.EARLY` and the functions of `rules.LIFTED`.

    Raises:
        BuildError: one is not in the sources any more.
    """
    text = ["import torch"]
    for rule in (*rules.EARLY, *rules.LIFTED):
        if rule.module not in sources:
            continue
        tree = ast.parse(sources.module(rule.module).source)
        if gone := [line for line in rule.lines if not _stands_in(tree, line)]:
            raise BuildError(
                f"{rule.module} has no line {gone[0]!r} any more (builder/python/deferred/rules.py)", _NEXT
            )
        text.extend(rule.lines)
        if isinstance(rule, rules.Lifted):
            text.append(_function(rule, tree))
    return "\n".join(text) + "\n"


def _stands_in(tree: ast.Module, line: str) -> bool:
    """Whether a module has a statement, in its body; an import may be a part of a longer one."""
    (wanted,) = ast.parse(line).body
    if not isinstance(wanted, ast.ImportFrom):
        return any(ast.unparse(each) == ast.unparse(wanted) for each in tree.body)
    names = {alias.name for alias in wanted.names}
    return any(
        isinstance(each, ast.ImportFrom)
        and each.module == wanted.module
        and names <= {alias.name for alias in each.names if alias.asname is None}
        for each in tree.body
    )


def _function(rule: rules.Lifted, tree: ast.Module) -> str:
    """A function's own text, where all names that it uses are builtins, `torch`, or come from the lines of the rule."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == rule.function:
            known = {"torch", *dir(builtins)}
            for line in rule.lines:
                known |= {each.id for each in ast.walk(ast.parse(line)) if isinstance(each, ast.Name)}
                known |= {each.asname or each.name for each in ast.walk(ast.parse(line)) if isinstance(each, ast.alias)}
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            if node.decorator_list or node.args.args or used - known:
                break
            return ast.unparse(node)
    raise BuildError(
        f"{rule.module} has no such plain function {rule.function} (LIFTED in builder/python/deferred/rules.py)", _NEXT
    )


class Rewriting(NamedTuple):
    """The arguments of `defer.rewrite`."""

    module: Module
    names: dict[str, tuple[str, str]]
    unborn: list[tuple[str, str]]
    answers: dict[str, defer.Answer]
    later: tuple[str, ...]


def rewriting(sources: Sources, plan: Plan, name: str) -> Rewriting:
    """How a module of `plan.deferred` is to be rewritten."""
    answers = {rule.function: defer.Answer(rule.value, rule.when) for rule in rules.ANSWERS if rule.module == name}
    later = lines_of_later(name) if name in plan.later else ()
    return Rewriting(sources.module(name), plan.deferred[name], sorted(UNBORN), answers, later)


_NEXT = "This version of torch needs other rules. Build with --eager-imports meanwhile, which holds nothing back"
