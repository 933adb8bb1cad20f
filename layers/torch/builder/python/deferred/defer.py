"""Rewrites a module so that names which it takes from a held module wait until they are used.

    from torch.fx import Graph                  _torch_layer.defer_names(__name__, 'torch.fx', 'Graph')

    def trace(root):                            def trace(root):
        return Graph(root)                          return (Graph if _torch_layer.ready
                                                            else _torch_layer.resolve(__name__, 'Graph'))(root)

Only names that the module's body itself never reads can wait: those used in functions. After the import was completed, a
rewritten module computes what the original does, object for object; before that, the first use of such a name completes it. Line
numbers stay, and `inspect` shows the original source.

Everything that is put off is one of these (`rules` has a table for each but the first):

- deferred names: as above;
- deferred statements: a statement of the body waits as well, if the body does not read what it binds (`statements`);
- eager statements: a statement of a held module that runs when `import torch` ends;
- copied functions: a function of a held module that does not need its module;
- classes without instances: a question whether something is an instance of a class can be answered without the class while
  its module has not run, since of a class that was never made there are no instances;
- stubbed answers: a function of a module that runs, with a known answer until the import is complete.
"""

import ast
from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeGuard

from builder.python.deferred import statements as deferred_statements
from builder.python.deferred.module_text import ModuleText, Origin, has_future_annotations
from builder.python.deferred.scopes import ScopeWalker
from builder.python.deferred.statements import helper, located


class Stub(NamedTuple):
    """What a function returns until the import is completed.

    Attributes:
        value: a Python expression.
        when: another one, in the function's own terms; where it is not true, the function runs. Empty: always.
    """

    value: str
    when: str


def rewrite(
    module: ModuleText,
    names: Mapping[str, Origin],
    classes: Collection[Origin],
    stubs: Mapping[str, Stub],
    statements: Collection[str] = (),
) -> ast.Module:
    """The module's tree, with these names deferred.

    Args:
        module: the module that imports.
        names: of those that `deferrable` gave, the ones to defer.
        classes: classes of held modules that have no instances before their module has run.
        stubs: functions of the module, each with what it returns until the import is completed.
        statements: deferred statements of the module's body, each by its first line.

    Raises:
        ValueError: the module has no such function, or no such statement.
    """
    tree = module.parse()
    put_off = deferred_statements.wrap(tree, module, statements)
    rewriter = Rewriter(module, names, classes, has_future_annotations(tree), put_off)
    rewriter.visit(tree)
    for name, stub in stubs.items():
        function = function_at(tree, name)
        if function is None:
            raise ValueError(f"{module.name} has no function {name}")
        _answer_first(function, stub)
    body: list[ast.stmt] = []
    for statement in tree.body:
        body.extend(rewriter.split(statement) if isinstance(statement, ast.ImportFrom) else [statement])
        if isinstance(statement, ast.FunctionDef) and deferred_statements.is_wrapped(statement):
            body.extend(deferred_statements.hand_over(statement))
    tree.body = body
    ast.fix_missing_locations(tree)
    return tree


def function_at(tree: ast.Module, path: str) -> ast.FunctionDef | None:
    """A function of a module's body by its name, or `outer.inner`, one that such a function makes; None if there is none."""
    outer, _, inner = path.partition(".")
    # Of several with this name, declarations with @overload come first.
    found = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == outer][-1:]
    if inner:
        within = [each for function in found for each in ast.walk(function)]
        found = [each for each in within if isinstance(each, ast.FunctionDef) and each.name == inner]
    return found[-1] if found else None


def _answer_first(function: ast.FunctionDef, stub: Stub) -> None:
    question: ast.expr = ast.UnaryOp(ast.Not(), helper("ready"))
    if stub.when:
        question = ast.BoolOp(ast.And(), [question, ast.parse(stub.when, mode="eval").body])
    answer = ast.Return(ast.parse(stub.value, mode="eval").body)
    has_text = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
    first = function.body[1 if has_text else 0]
    function.body.insert(1 if has_text else 0, located(ast.If(question, [answer], []), first))


def asks_for_classes(module: ModuleText, classes: Collection[Origin]) -> bool:
    """Whether the module has a question that `rewrite` would answer for it."""
    tree = module.parse()
    rewriter = Rewriter(module, {}, classes, has_future_annotations(tree))
    rewriter.visit(tree)
    return rewriter.answered > 0


class Rewriter(ScopeWalker):
    """Puts the questions in, and answers `isinstance` for classes without instances."""

    def __init__(
        self,
        module: ModuleText,
        names: Mapping[str, Origin],
        classes: Collection[Origin],
        future_annotations: bool,
        put_off: Collection[str] = (),
    ) -> None:
        super().__init__({*names, *put_off}, future_annotations)
        self.answered = 0
        self._module, self.origins, self._classes = module, names, frozenset(classes)
        self.homes = {each: each[0] for each in classes}  # a class as it is imported -> the module that makes it

    def use(self, node: ast.Name) -> ast.expr:
        question = ast.Call(helper("resolve"), [ast.Name("__name__", ast.Load()), ast.Constant(node.id)], [])
        return located(ast.IfExp(helper("ready"), node, question), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_question(node):
            node.args[1] = self.answer(node.args[1])
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`type(x) is FakeTensor`."""
        if all(isinstance(each, ast.Is | ast.IsNot) for each in node.ops):
            node.comparators = [self.answer(each) for each in node.comparators]
        return self.generic_visit(node)

    def answer(self, node: ast.expr) -> ast.expr:
        """What takes the place of a class, or of several, in a question for its instances."""
        if isinstance(node, ast.Tuple):
            node.elts = [self.answer(each) for each in node.elts]
        elif origin := self._class_asked_for(node):
            self.answered += 1
            # The class itself is behind `ready`, so it need not be asked for once more.
            made = ast.Call(helper("class_if_run"), [*map(ast.Constant, origin)], [])
            return located(_AnsweredQuestion(helper("ready"), node, made), node)
        return node

    def _class_asked_for(self, node: ast.expr) -> Origin | None:
        if isinstance(node, ast.Name):
            is_own = self.functions and not any(node.id in names for names in self.local)
            origin = self.origins.get(node.id) if is_own else None
        else:
            source, _, name = (dotted_path(node) or "").rpartition(".")
            origin = source, name
        return origin if origin in self._classes else None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return node if isinstance(node, _AnsweredQuestion) else super().generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        """In a function: `from torch._subclasses.fake_tensor import FakeTensor`, for questions only."""
        source = self._module.absolute(node)
        born = [
            alias
            for alias in node.names
            if self.functions and (source, alias.name) in self.homes and self._only_asked(alias)
        ]
        if not born:
            return node
        self.answered += len(born)
        statements: list[ast.stmt] = [
            located(
                ast.Assign(
                    [ast.Name(alias.asname or alias.name, ast.Store())],
                    ast.Call(
                        helper("class_if_made"),
                        [ast.Constant(self.homes[source, alias.name]), ast.Constant(alias.name)],
                        [],
                    ),
                ),
                node,
            )
            for alias in born
        ]
        rest = [alias for alias in node.names if alias not in born]
        if rest:
            node.names = rest
            statements.append(node)
        return statements

    def _only_asked(self, alias: ast.alias) -> bool:
        """Whether the function reads the name only as the second argument of `isinstance`, or after `is`."""
        name = alias.asname or alias.name
        function = self.functions[-1]
        body = function.body if isinstance(function.body, list) else [function.body]  # its annotations are no uses
        nodes = [each for part in body for each in ast.walk(part)]
        asked: set[int] = set()
        for node in nodes:
            if isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                asked.update(map(id, node.comparators))
            elif _is_question(node):
                kinds = node.args[1]
                asked.update(map(id, kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]))
        return all(
            id(each) in asked
            for each in nodes
            if isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Load)
        )

    def split(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """A `from ... import` of the module's body, without the deferred names."""
        bound = [alias.asname or alias.name for alias in node.names]
        rest = [alias for alias, name in zip(node.names, bound, strict=True) if name not in self.names]
        if len(rest) == len(node.names):
            return [node]
        texts = [self._module.absolute(node), *(name for name in bound if name in self.names)]
        call = ast.Call(helper("defer_names"), [ast.Name("__name__", ast.Load()), *map(ast.Constant, texts)], [])
        statements: list[ast.stmt] = [located(ast.Expr(call), node)]
        if rest:
            node.names = rest
            statements.append(node)
        return statements


class _AnsweredQuestion(ast.IfExp):
    """An answer that is in place."""


def _is_question(node: ast.AST) -> TypeGuard[ast.Call]:
    """`isinstance(x, ...)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and len(node.args) == 2
    )


def dotted_path(node: ast.expr) -> str | None:
    """`torch._subclasses.fake_tensor.FakeTensor` of an expression that is just that; `getattr(x, "name")` is `x.name`."""
    parts = []
    while True:
        match node:
            case ast.Attribute(value, attribute):
                parts.append(attribute)
                node = value
            case ast.Call(func=ast.Name("getattr"), args=[value, ast.Constant(value=str() as attribute)], keywords=[]):
                parts.append(attribute)
                node = value
            case ast.Name(name):
                return ".".join([name, *reversed(parts)])
            case _:
                return None
