"""What of a module could be deferred: names that its body does not need, and statements whose names it does not need."""

import ast
from collections.abc import Callable, Collection

from builder.python.deferred import statements as deferred_statements
from builder.python.deferred.module_text import ModuleText, Origin, has_future_annotations
from builder.python.deferred.scopes import BoundNames, ScopeWalker


def deferrable(
    module: ModuleText, is_module: Callable[[str], bool], statements: Collection[str] = ()
) -> dict[str, Origin]:
    """The names that could wait, each with where it comes from.

    Args:
        module: the module that imports.
        is_module: whether a dotted name is a module: `from torch import fx` binds a module object, which may be held itself.
        statements: deferred statements of the module's body, each by its first line.
    """
    tree = module.parse()
    deferred_statements.wrap(tree, module, statements)
    imports = _FromImports(tree, module, is_module)
    uses = ScopeWalker(imports.names, has_future_annotations(tree))
    uses.visit(tree)
    return {name: origin for name, origin in imports.names.items() if name not in uses.needed}


def names_bound(module: ModuleText, statements: Collection[str]) -> tuple[str, ...]:
    """The names that are not there before these statements of the module's body have run, each given by its first line.

    Raises:
        ValueError: there is no such statement, or the rest of the module's body needs what it binds.
    """
    tree = module.parse()
    names = deferred_statements.wrap(tree, module, statements)
    rest = BoundNames()
    uses = ScopeWalker(names, has_future_annotations(tree))
    for statement in tree.body:
        if not deferred_statements.is_wrapped(statement):
            rest.visit(statement)
            uses.visit(statement)
    if needed := sorted(set(names) & (rest.names | uses.needed)):
        raise ValueError(f"{module.name} needs {', '.join(needed)} at once")
    return names


class _FromImports:
    """The names that a module's body binds by one `from ... import`, and by nothing else."""

    def __init__(self, tree: ast.Module, module: ModuleText, is_module: Callable[[str], bool]) -> None:
        found: dict[str, list[Origin]] = {}
        other = BoundNames()
        for statement in tree.body:
            if not isinstance(statement, ast.ImportFrom):
                other.visit(statement)
                continue
            source = module.absolute(statement)
            for alias in statement.names:
                if source == "__future__" or alias.name == "*" or is_module(f"{source}.{alias.name}"):
                    other.names.add(alias.asname or alias.name)
                else:
                    found.setdefault(alias.asname or alias.name, []).append((source, alias.name))
        self.names = {
            name: origins[0] for name, origins in found.items() if len(origins) == 1 and name not in other.names
        }


def rebound(module: ModuleText) -> frozenset[str]:
    """The names that a package's body binds to something of its own, so that a submodule of such a name is not its attribute."""
    names = _Rebound(module)
    names.visit(module.parse())
    return frozenset(names.names)


class _Rebound(BoundNames):
    def __init__(self, package: ModuleText) -> None:
        super().__init__()
        self._package = package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """`from . import name` binds the submodule itself."""
        source = self._package.absolute(node)
        for alias in node.names:
            name = alias.asname or alias.name
            if f"{source}.{alias.name}" != f"{self._package.name}.{name}":
                self.names.add(name)

    def visit_If(self, node: ast.If) -> None:
        """What stands there for type checkers only is not run."""
        is_run = not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        for each in [*(node.body if is_run else []), *node.orelse]:
            self.visit(each)
