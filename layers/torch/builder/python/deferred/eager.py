"""What runs when `import torch` ends, though its modules wait: eager statements and copied functions, as one text."""

import ast
import builtins

from builder.errors import BuildError
from builder.python.deferred import rules
from builder.python.deferred.sources import CLASSES, SourceTree

NEXT = "This version of torch needs other rules. Until they are written, build with --eager-imports, which holds nothing back"


def eager_code(sources: SourceTree) -> str:
    """The eager statements and the copied functions of the rules, as one text.

    Raises:
        BuildError: one is not in the sources any more.
    """
    text = ["import torch"]
    eager = rules.applying(rules.EAGER_STATEMENTS, sources.torch)
    copied = rules.applying(rules.COPIED_FUNCTIONS, sources.torch)
    rows: list[rules.EagerStatement | rules.CopiedFunction] = [*eager, *copied]
    for rule in rows:
        if rule.module not in sources:
            raise BuildError(f"torch has no module {rule.module} any more (builder/python/deferred/rules.py)", NEXT)
        text.extend(eager_text(sources, rule))
    return "\n".join(text) + "\n"


def eager_text(sources: SourceTree, rule: rules.EagerStatement | rules.CopiedFunction) -> list[str]:
    """One row's part of `eager_code`. Raises BuildError where its lines or its function are not in the module any more."""
    tree = sources.module(rule.module).parse()
    if isinstance(rule, rules.CopiedFunction) and rule.answer:
        return _answer(rule, sources)
    if gone := [line for line in rule.lines if not _stands_in(tree, line)]:
        raise BuildError(f"{rule.module} has no line {gone[0]!r} any more (builder/python/deferred/rules.py)", NEXT)
    text = [f"__name__ = {rule.module!r}", *rule.lines]
    if isinstance(rule, rules.CopiedFunction):
        text.append(_function(rule, tree))
    return text


def _answer(rule: rules.CopiedFunction, sources: SourceTree) -> list[str]:
    """A function that gives a known answer. Raises BuildError where there is no such function."""
    home = rule.home or rule.module
    functions = {each.name for each in sources.module(home).parse().body if isinstance(each, ast.FunctionDef)}
    if rule.function not in functions:
        raise BuildError(
            f"{home} has no function {rule.function} (COPIED_FUNCTIONS in builder/python/deferred/rules.py)", NEXT
        )
    return [f"__name__ = {rule.module!r}", f"def {rule.function}(*arguments, **options):\n    return {rule.answer}"]


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
    """A function's own text, where all names that it uses are builtins, `torch`, its arguments, or from the lines of the rule."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == rule.function:
            given = [*node.args.posonlyargs, *node.args.args]
            known = {"torch", *dir(builtins), *(each.arg for each in given)}
            for line in rule.lines:
                known |= {each.id for each in ast.walk(ast.parse(line)) if isinstance(each, ast.Name)}
                known |= {each.asname or each.name for each in ast.walk(ast.parse(line)) if isinstance(each, ast.alias)}
            _WithoutInstances(rule.module).visit(node)
            node.returns = None
            for each in given:
                each.annotation = None
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            if node.decorator_list or node.args.defaults or node.args.vararg or node.args.kwarg or node.args.kwonlyargs:
                break
            if used - known:
                break
            return ast.unparse(node)
    raise BuildError(
        f"{rule.module} has no such plain function {rule.function} (COPIED_FUNCTIONS in builder/python/deferred/rules.py)",
        NEXT,
    )


class _WithoutInstances(ast.NodeTransformer):
    """Makes `isinstance(x, C)` of the module's classes without instances `isinstance(x, ())`, which is false."""

    def __init__(self, module: str) -> None:
        self._module = module

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name("isinstance"), args=[_, ast.Name(name)]) if (self._module, name) in CLASSES:
                node.args[1] = ast.Tuple([], ast.Load())
        return node
