"""Statements of packages that a user adds, which wait until another module has run (`library_rules.LIBRARY_STATEMENTS`)."""

import ast

from builder.python.deferred import candidates, library_rules, statements
from builder.python.deferred.module_text import ModuleText, Origin


def names_left(module: ModuleText) -> dict[str, Origin]:
    """The names that a module's waiting statements bind, its submodules that they import among them.

    Each has the module for which its statement waits, and no attribute there.
    """
    row = _row(module)
    if row is None:
        return {}
    imports = [each for each in ast.walk(module.parse()) if isinstance(each, ast.ImportFrom)]
    sources = [module.absolute(each) for each in imports if ast.unparse(each) in row.lines]
    prefix = f"{module.name}."
    children = [each.removeprefix(prefix).partition(".")[0] for each in sources if each.startswith(prefix)]
    return dict.fromkeys([*candidates.names_bound(module, row.lines), *children], (row.after, ""))


def parsed(module: ModuleText) -> ast.Module:
    """A new tree of a module, in which statements that wait are functions, and go to the helper."""
    tree = module.parse()
    if row := _row(module):
        statements.wrap(tree, module, row.lines)
        body: list[ast.stmt] = []
        for statement in tree.body:
            body.append(statement)
            if isinstance(statement, ast.FunctionDef) and statements.is_wrapped(statement):
                body.extend(statements.hand_over(statement, row.after))
        tree.body = body
    return tree


def _row(module: ModuleText) -> library_rules.LibraryStatements | None:
    """The row about a module's statements; None where this version of it is another."""
    for row in library_rules.LIBRARY_STATEMENTS:
        if row.module == module.name:
            try:
                candidates.names_bound(module, row.lines)
            except ValueError:
                return None
            return row
    return None
