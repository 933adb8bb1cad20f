"""From a list of held modules to what the layer needs at run time."""

import ast
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from builder.errors import BuildError
from builder.python.deferred import candidates, defer, eager, rules
from builder.python.deferred.eager import NEXT
from builder.python.deferred.module_text import ModuleText, Origin
from builder.python.deferred.sources import CLASSES, SourceTree, deferred_statements_of
from torch_layer.plan import Plan

DeferredNames = dict[str, dict[str, Origin]]


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


def everything(sources: SourceTree, order: Iterable[str], held: Sequence[str]) -> Plan:
    """A plan that defers whatever can wait, held or not: for finding out what is used."""
    deferred = {name: sources.deferrable(name) for name in order}
    return Plan(
        "torch",
        held=tuple(held),
        deferred_names=_rewritable(sources, deferred),
        deferred_statements=_deferred_statements(sources, deferred),
        eager_code=eager.eager_code(sources),
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
        raise BuildError(f"the profile names modules that torch does not have: {', '.join(missing[:5])}", NEXT)
    waiting = frozenset(held.modules)
    separable = _separable(sources, held.modules)
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
        eager_code=eager.eager_code(sources),
        copied_functions=_copied_functions(sources),
        factories=held.factories,
        meta_operators=tuple(sorted(row.name for row in rules.applying(rules.META_OPERATORS, sources.torch))),
        namespaces=held.namespaces,
        native=held.native,
        rebound=_rebound(sources, held.modules),
        submodules=_submodules(sources, held.modules, held.running),
        at_fork=tuple(rule.module for rule in rules.AT_FORK),
        separable=separable,
    )


def _separable(sources: SourceTree, held: Iterable[str]) -> tuple[str, ...]:
    """The held modules that run by themselves, in the order in which stock torch begins to run them."""
    found = tuple(name for name in held if rules.is_separable(name, sources.torch))
    for rule in rules.COPIED_FUNCTIONS:
        has_state = rule.answer or any(not line.startswith(("import ", "from ")) for line in rule.lines)
        if rule.module in found and has_state:
            # Its flags would be two: the copy's, and the module's. A known answer may change when the module runs.
            raise BuildError(f"{rule.module} is separable, and a function of it is copied", NEXT)
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
    require_prepared(sources)
    constants = {rule.module: {rule.name: constant(sources, rule)} for rule in rules.CONSTANTS}
    return Plan(
        "numpy",
        held=tuple(modules),
        native=(rules.NUMPY_NATIVE,),
        rebound=_rebound(sources, modules),
        submodules=_submodules(sources, modules),
        constants=constants,
    )


def require_prepared(sources: SourceTree) -> None:
    """Refuse a NumPy that prepares for its C code in another way. Raises BuildError."""
    if rules.NUMPY_PREPARES not in sources.module("numpy._core").source.decode():
        raise BuildError(
            f"numpy._core has no line {rules.NUMPY_PREPARES!r} any more (builder/python/deferred/rules.py)", NEXT
        )


def constant(sources: SourceTree, rule: rules.Constant) -> str:
    """The text that a row's name has. Raises BuildError where the module does not set it to a text."""
    for node in ast.parse(sources.module(rule.origin).source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        if [ast.unparse(each) for each in node.targets] == [rule.original] and isinstance(node.value.value, str):
            return node.value.value
    raise BuildError(
        f"{rule.origin} does not set {rule.original} to a text (CONSTANTS in builder/python/deferred/rules.py)", NEXT
    )


def _rewritable(sources: SourceTree, deferred: DeferredNames) -> DeferredNames:
    """Without the modules in which there is nothing to defer."""
    answering = {rule.module for rule in rules.applying(rules.STUBBED_ANSWERS, sources.torch)}
    answering |= {rule.module for rule in rules.applying(rules.DEFERRED_STATEMENTS, sources.torch)}
    return {
        name: names for name, names in deferred.items() if names or name in answering or sources.asks_for_classes(name)
    }


def _deferred_statements(sources: SourceTree, running: Iterable[str]) -> dict[str, tuple[str, ...]]:
    modules = {rule.module for rule in rules.applying(rules.DEFERRED_STATEMENTS, sources.torch)}
    try:
        return {
            name: candidates.names_bound(sources.module(name), deferred_statements_of(sources, name))
            for name in running
            if name in modules
        }
    except ValueError as error:
        raise BuildError(
            f"a statement cannot wait: {error} (DEFERRED_STATEMENTS in builder/python/deferred/rules.py)", NEXT
        ) from error


def _copied_functions(sources: SourceTree) -> tuple[Origin, ...]:
    return tuple((rule.module, rule.function) for rule in rules.applying(rules.COPIED_FUNCTIONS, sources.torch))


class Rewriting(NamedTuple):
    """The arguments of `defer.rewrite`."""

    module: ModuleText
    names: dict[str, Origin]
    classes: list[Origin]
    stubs: dict[str, defer.Stub]
    statements: tuple[str, ...]


def rewriting(sources: SourceTree, plan: Plan, name: str) -> Rewriting:
    """How a module of `plan.deferred_names` is to be rewritten."""
    answers = rules.applying(rules.STUBBED_ANSWERS, sources.torch)
    stubs = {rule.function: defer.Stub(rule.value, rule.when) for rule in answers if rule.module == name}
    statements = deferred_statements_of(sources, name) if name in plan.deferred_statements else ()
    return Rewriting(sources.module(name), plan.deferred_names[name], sorted(CLASSES), stubs, statements)
