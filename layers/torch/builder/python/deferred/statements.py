"""Deferred statements: statements of a module's body that become functions, which run later.

import unittest.mock                        def _torch_layer_deferred():
                                                global unittest
                                                import unittest.mock
                                            _torch_layer.defer_statement(__name__, _torch_layer_deferred, 'unittest')
                                            del _torch_layer_deferred
"""

import ast
from collections.abc import Collection
from typing import TypeVar

from builder.python.deferred.module_text import ModuleText
from builder.python.deferred.scopes import BoundNames

HELPER = "_torch_layer"
_FUNCTION = "_torch_layer_deferred"
_Node = TypeVar("_Node", bound=ast.AST)


def wrap(tree: ast.Module, module: ModuleText, statements: Collection[str]) -> tuple[str, ...]:
    """Make functions of statements of the module's body, and return the names that they bind.

    Args:
        tree: the module's tree, which is changed.
        module: the module.
        statements: each by its first line.

    Raises:
        ValueError: one of them is not there exactly once.
    """
    lines = [ast.unparse(each).partition("\n")[0] for each in tree.body] if statements else []
    bound: dict[str, None] = {}
    for line in statements:
        if lines.count(line) != 1:
            raise ValueError(f"{module.name} has not one statement {line!r}")
        at = lines.index(line)
        names = sorted(_left_by(tree.body[at]))
        bound.update(dict.fromkeys(names))
        none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        body = [ast.Global(names), tree.body[at]] if names else [tree.body[at]]
        function = ast.FunctionDef(_FUNCTION, none, body, [])
        tree.body[at] = ast.fix_missing_locations(ast.copy_location(function, tree.body[at]))
    return tuple(bound)


def _left_by(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, and does not delete again. The others are the function's own."""
    left: set[str] = set()
    parts: list[ast.AST] = [statement]
    if isinstance(statement, ast.If) and not statement.orelse:
        parts = [statement.test, *statement.body]
    for part in parts:
        binds = BoundNames()
        binds.visit(part)
        left = left - binds.names if isinstance(part, ast.Delete) else left | binds.names
    return left


def is_wrapped(statement: ast.stmt) -> bool:
    """Whether `wrap` has made this statement."""
    return isinstance(statement, ast.FunctionDef) and statement.name == _FUNCTION


def hand_over(function: ast.FunctionDef, *more: str) -> list[ast.stmt]:
    """What follows such a function in the module's body: it goes to the helper, and its name goes away.

    Args:
        function: made by `wrap`.
        more: arguments of the helper, before the function.
    """
    first = function.body[0]
    names = first.names if isinstance(first, ast.Global) else []
    arguments: list[ast.expr] = [ast.Name("__name__", ast.Load()), *map(ast.Constant, more)]
    arguments += [ast.Name(_FUNCTION, ast.Load()), *map(ast.Constant, names)]
    call = ast.Expr(ast.Call(helper("defer_statement"), arguments, []))
    return [located(call, function), located(ast.Delete([ast.Name(_FUNCTION, ast.Del())]), function)]


def helper(attribute: str) -> ast.Attribute:
    """`_torch_layer.attribute`, an expression."""
    return ast.Attribute(ast.Name(HELPER, ast.Load()), attribute, ast.Load())


def located(node: _Node, like: ast.AST) -> _Node:
    """The node, with the line numbers of the one that it stands for."""
    for each in ast.walk(node):
        # What is new, or was parsed apart, has no place of its own.
        if each is not like and getattr(each, "lineno", 1) == 1:
            ast.copy_location(each, like)
    return node
