"""From a list of held modules to what the layer needs at run time."""

import ast
import builtins
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from builder.errors import BuildError
from builder.python.deferred import candidates, defer, rules
from builder.python.deferred.module_text import ModuleText, Origin
from torch_layer.plan import Plan

DeferredNames = dict[str, dict[str, Origin]]
CLASSES = frozenset((rule.module, rule.name) for rule in rules.CLASSES_WITHOUT_INSTANCES)


class HeldModules(NamedTuple):
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


class SourceTree:
    """The Python modules of a tree's packages that may take part.

    Args:
        tree: a folder of packages.
        packages: which of them.
    """

    def __init__(self, tree: Path, packages: Sequence[str] = rules.PACKAGES) -> None:
        self._tree = tree
        paths = [path for package in packages for path in sorted((tree / package).rglob("*.py"))]
        self._paths = {self._name(path): path for path in paths}
        self._deferrable: dict[str, dict[str, Origin]] = {}
        self._asks: dict[str, bool] = {}
        self._rebound: dict[str, frozenset[str]] = {}

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self._tree).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def is_attribute(self, name: str) -> bool:
        """Whether a dotted name is a module, and its package's attribute of that name is this module too."""
        package, _, tail = name.rpartition(".")
        if name not in self or package not in self:
            return name in self
        if package not in self._rebound:
            self._rebound[package] = candidates.rebound(self.module(package))
        return tail not in self._rebound[package]

    def module(self, name: str) -> ModuleText:
        """A module, read."""
        path = self._paths[name]
        return ModuleText(name, path.name == "__init__.py", path.read_bytes())

    def path(self, name: str) -> str:
        """Where it lies in the tree."""
        return self._paths[name].relative_to(self._tree).as_posix()

    def deferrable(self, name: str) -> dict[str, Origin]:
        """`candidates.deferrable` of a module, looked for once."""
        if name not in self._deferrable:
            module = self.module(name)
            alone = rules.is_left_alone(name, module.source)
            found = {} if alone else candidates.deferrable(module, self.is_attribute, deferred_statements_of(name))
            self._deferrable[name] = {
                bound: origin for bound, origin in found.items() if origin[0].split(".")[0] in rules.PACKAGES
            }
        return self._deferrable[name]

    def asks_for_classes(self, name: str) -> bool:
        """`defer.asks_for_classes` of a module, looked for once."""
        if name not in self._asks:
            module = self.module(name)
            named = any(rule.name.encode() in module.source for rule in rules.CLASSES_WITHOUT_INSTANCES)
            alone = rules.is_left_alone(name, module.source)
            self._asks[name] = named and not alone and defer.asks_for_classes(module, CLASSES)
        return self._asks[name]


def everything(sources: SourceTree, order: Iterable[str], held: Sequence[str]) -> Plan:
    """A plan that defers whatever can wait, held or not: for finding out what is used."""
    deferred = {name: sources.deferrable(name) for name in order}
    return Plan(
        "torch",
        held=tuple(held),
        deferred_names=_rewritable(sources, deferred),
        deferred_statements=_deferred_statements(sources, deferred),
        eager_code=eager_code(sources),
        copied_functions=_copied_functions(sources),
        rebound=_rebound(sources, held),
        submodules=_submodules(sources, held),
    )


def make(sources: SourceTree, held: HeldModules) -> Plan:
    """The plan for these held modules.

    Raises:
        BuildError: they do not fit the sources.
    """
    if not held.modules:
        return Plan("torch")
    missing = [name for name in (*held.modules, *held.running) if name not in sources]
    if missing:
        raise BuildError(f"the profile names modules that torch does not have: {', '.join(missing[:5])}", _NEXT)
    waiting = frozenset(held.modules)
    separable = _separable(held.modules)
    # A separable module runs while others wait, as those do that `import torch` runs.
    rewritten = (*held.running, *separable)
    deferred: DeferredNames = {name: {} for name in rewritten}
    # A name may come by way of a module that defers it itself, so this is repeated until nothing is added.
    grown = True
    while grown:
        grown = False
        for name in rewritten:
            for bound, (origin, attribute) in sources.deferrable(name).items():
                if bound not in deferred[name] and (origin in waiting or attribute in deferred.get(origin, {})):
                    deferred[name][bound] = (origin, attribute)
                    grown = True
    return Plan(
        "torch",
        held=held.modules,
        deferred_names=_rewritable(sources, deferred),
        deferred_statements=_deferred_statements(sources, deferred),
        eager_code=eager_code(sources),
        copied_functions=_copied_functions(sources),
        factories=held.factories,
        namespaces=held.namespaces,
        native=held.native,
        rebound=_rebound(sources, held.modules),
        submodules=_submodules(sources, held.modules, held.running),
        at_fork=tuple(rule.module for rule in rules.AT_FORK),
        separable=separable,
    )


def _separable(held: Iterable[str]) -> tuple[str, ...]:
    """The held modules that run by themselves, in the order in which stock torch begins to run them."""
    found = tuple(name for name in held if rules.is_separable(name))
    for rule in rules.COPIED_FUNCTIONS:
        if rule.module in found:
            # Its flags would be two: the copy's, and the module's.
            raise BuildError(f"{rule.module} is separable, and a function of it is copied", _NEXT)
    return found


def _rebound(sources: SourceTree, held: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in held if not sources.is_attribute(name))


def _submodules(sources: SourceTree, held: Sequence[str], running: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Package that runs -> names of its submodules, which are held, or which only held modules import."""
    waiting = frozenset(held)
    found: dict[str, list[str]] = {}
    for name in sorted([*held, *running]):
        package, _, tail = name.rpartition(".")
        if package and package not in waiting and sources.is_attribute(name):
            found.setdefault(package, []).append(tail)
    return {package: tuple(names) for package, names in found.items()}


def of_numpy(sources: SourceTree, modules: Sequence[str]) -> Plan:
    """The plan for these held modules of NumPy.

    Raises:
        BuildError: NumPy is not made as the rules say any more.
    """
    if not modules:
        return Plan("numpy")
    if rules.NUMPY_PREPARES not in sources.module("numpy._core").source.decode():
        raise BuildError(
            f"numpy._core has no line {rules.NUMPY_PREPARES!r} any more (builder/python/deferred/rules.py)", _NEXT
        )
    constants = {rule.module: {rule.name: _constant(sources, rule)} for rule in rules.CONSTANTS}
    return Plan(
        "numpy",
        held=tuple(modules),
        native=(rules.NUMPY_NATIVE,),
        rebound=_rebound(sources, modules),
        submodules=_submodules(sources, modules),
        constants=constants,
    )


def _constant(sources: SourceTree, rule: rules.Constant) -> str:
    for node in ast.parse(sources.module(rule.origin).source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        if [ast.unparse(each) for each in node.targets] == [rule.original] and isinstance(node.value.value, str):
            return node.value.value
    raise BuildError(
        f"{rule.origin} does not set {rule.original} to a text (CONSTANTS in builder/python/deferred/rules.py)", _NEXT
    )


def _rewritable(sources: SourceTree, deferred: DeferredNames) -> DeferredNames:
    """Without the modules in which there is nothing to defer."""
    answering = {rule.module for rule in rules.STUBBED_ANSWERS} | {rule.module for rule in rules.DEFERRED_STATEMENTS}
    return {
        name: names for name, names in deferred.items() if names or name in answering or sources.asks_for_classes(name)
    }


def deferred_statements_of(name: str) -> tuple[str, ...]:
    """The first lines of the statements of a module that wait."""
    return tuple(rule.line for rule in rules.DEFERRED_STATEMENTS if rule.module == name)


def _deferred_statements(sources: SourceTree, running: Iterable[str]) -> dict[str, tuple[str, ...]]:
    modules = dict.fromkeys(rule.module for rule in rules.DEFERRED_STATEMENTS)
    try:
        return {
            name: candidates.names_bound(sources.module(name), deferred_statements_of(name))
            for name in running
            if name in modules
        }
    except ValueError as error:
        raise BuildError(
            f"a statement cannot wait: {error} (DEFERRED_STATEMENTS in builder/python/deferred/rules.py)", _NEXT
        ) from error


def _copied_functions(sources: SourceTree) -> tuple[Origin, ...]:
    return tuple((rule.module, rule.function) for rule in rules.COPIED_FUNCTIONS if rule.module in sources)


def eager_code(sources: SourceTree) -> str:
    """The eager statements and the copied functions of the rules, as one text.

    Raises:
        BuildError: one is not in the sources any more.
    """
    text = ["import torch"]
    for rule in (*rules.EAGER_STATEMENTS, *rules.COPIED_FUNCTIONS):
        if rule.module not in sources:
            continue
        tree = ast.parse(sources.module(rule.module).source)
        if gone := [line for line in rule.lines if not _stands_in(tree, line)]:
            raise BuildError(
                f"{rule.module} has no line {gone[0]!r} any more (builder/python/deferred/rules.py)", _NEXT
            )
        text.append(f"__name__ = {rule.module!r}")
        text.extend(rule.lines)
        if isinstance(rule, rules.CopiedFunction):
            text.append(_function(rule, tree))
    return "\n".join(text) + "\n"


def _stands_in(tree: ast.Module, line: str) -> bool:
    """Whether a module has a statement, in its body; an import may be a part of a longer one."""
    (wanted,) = ast.parse(line).body
    if not isinstance(wanted, ast.ImportFrom):
        return any(ast.unparse(each) == ast.unparse(wanted) for each in tree.body)
    names = {(alias.name, alias.asname) for alias in wanted.names}
    return any(
        isinstance(each, ast.ImportFrom)
        and each.module == wanted.module
        and names <= {(alias.name, alias.asname) for alias in each.names}
        for each in tree.body
    )


def _function(rule: rules.CopiedFunction, tree: ast.Module) -> str:
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
        f"{rule.module} has no such plain function {rule.function} (COPIED_FUNCTIONS in builder/python/deferred/rules.py)",
        _NEXT,
    )


class Rewriting(NamedTuple):
    """The arguments of `defer.rewrite`."""

    module: ModuleText
    names: dict[str, Origin]
    classes: list[Origin]
    stubs: dict[str, defer.Stub]
    statements: tuple[str, ...]


def rewriting(sources: SourceTree, plan: Plan, name: str) -> Rewriting:
    """How a module of `plan.deferred_names` is to be rewritten."""
    stubs = {rule.function: defer.Stub(rule.value, rule.when) for rule in rules.STUBBED_ANSWERS if rule.module == name}
    statements = deferred_statements_of(name) if name in plan.deferred_statements else ()
    return Rewriting(sources.module(name), plan.deferred_names[name], sorted(CLASSES), stubs, statements)


_NEXT = "This version of torch needs other rules. Until they are written, build with --eager-imports, which holds nothing back"
