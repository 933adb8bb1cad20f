"""Rewrites modules of packages that a user adds, so that what they take from torch for functions only waits until it is used.

    if is_torch_distributed_available():                        if is_torch_distributed_available():
        from torch.distributed.tensor import DTensor                _torch_layer.defer_names(
                                                                        __name__, 'torch.distributed.tensor', 'DTensor')

    def local(x: torch.Tensor | DTensor):                       @_torch_layer.annotated('x')
        return x.to_local() if isinstance(x, DTensor) else x    def local(x: 'torch.Tensor | DTensor'): ...

`defer` does the same for torch's own modules. Here the imports may also stand inside of `if`, annotations do not count as uses,
and a class may come from a module that `import torch` does not run (`torch_layer.library_imports`).
"""

import ast
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from builder.python.deferred import library_rules, library_statements, rules
from builder.python.deferred.defer import Rewriter, dotted_path
from builder.python.deferred.module_text import ModuleText, Origin, has_future_annotations
from builder.python.deferred.scopes import BoundNames, Function, ScopeWalker
from builder.python.deferred.statements import HELPER, helper, located

Names = dict[str, dict[str, Origin]]


class _Waiting(NamedTuple):
    """What of a module could wait: names with where they come from, wherever that is, and how much else.

    Attributes:
        names: those of imports.
        left: those that statements bind which wait, each with the module that these wait for, and no attribute.
        others: how many statements, decorators and questions.
    """

    names: dict[str, Origin]
    left: dict[str, Origin]
    others: int


def waiting_names(modules: Mapping[str, ModuleText], may_wait: Callable[[Origin], bool]) -> Names:
    """The names of these modules that can wait. A module in which only decorators or statements wait has none.

    Args:
        modules: by their names.
        may_wait: whether an attribute of another module of torch may be taken later.
    """
    could = {name: _could_wait(module) for name, module in modules.items()}
    found: Names = {name: dict(names.left) for name, names in could.items()}
    # A name may come by way of a module in which it waits itself, so this is repeated until nothing is added.
    grown = True
    while grown:
        grown = False
        for name, names in could.items():
            for bound, (source, attribute) in names.names.items():
                waits = attribute in found.get(source, ()) or may_wait((source, attribute))
                if bound not in found[name] and waits:
                    found[name][bound] = (source, attribute)
                    grown = True
    return {name: names for name, names in found.items() if names or could[name].others}


def is_concerned(module: ModuleText) -> bool:
    """Whether something may wait in a module: a quick answer, before it is parsed."""
    return b"torch" in module.source or any(row.module == module.name for row in library_rules.LIBRARY_STATEMENTS)


def rewrite(module: ModuleText, names: Mapping[str, Origin]) -> ast.Module:
    """The module's tree, with these names deferred."""
    tree = library_statements.parsed(module)
    tree.body = _put_off_statements(tree.body)
    rewriter = _LibraryRewriter(module, names, has_future_annotations(tree))
    rewriter.visit(tree)
    ast.fix_missing_locations(tree)
    return tree


def _could_wait(module: ModuleText) -> _Waiting:
    """The names that a module's body binds by `from ... import` and does not need itself, and the decorators that wait."""
    tree = library_statements.parsed(module)
    tree.body = _put_off_statements(tree.body)
    put_off = sum(isinstance(each, ast.Name) and each.id == HELPER for each in ast.walk(tree))
    origins: dict[str, set[Origin]] = {}
    for node in _body_imports(tree.body):
        for alias in node.names:
            if node.module != "__future__" and alias.name != "*":
                origins.setdefault(alias.asname or alias.name, set()).add((module.absolute(node), alias.name))
    most = _most_bindings(tree.body)
    if rules.is_left_alone(module.name, module.source):
        origins = {}  # others may have another object in its place
    names = {name: next(iter(found)) for name, found in origins.items() if len(found) == 1 and most[name] == 1}
    left = library_statements.names_left(module)
    uses = _BodyUses(module.name, names, has_future_annotations(tree))
    uses.visit(tree)
    asks = _LibraryRewriter(module, {}, has_future_annotations(tree))
    asks.visit(module.parse())
    waiting = {name: origin for name, origin in names.items() if name not in uses.needed}
    return _Waiting(waiting, left, uses.decorators + put_off + asks.answered)


_DECORATORS = {row.path: row for row in library_rules.WAITING_DECORATORS}
_BODY_NOTES = frozenset(row.path for row in library_rules.BODY_NOTES)
_PUT_OFF = {(row.module, row.function) for row in library_rules.PUT_OFF_CALLS}
_FUNCTION = "_torch_layer_deferred"


def _put_off_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body in which statements that only fill objects, define operators, or note something about a function wait."""
    found: list[ast.stmt] = []
    for statement in body:
        _put_off_note(statement)
        if isinstance(statement, ast.If):
            statement.body = _put_off_statements(statement.body)
            statement.orelse = _put_off_statements(statement.orelse)
    for what, group in groupby(body, _waits_for):
        statements = list(group)
        if what is None:
            found += statements
            continue
        none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        function = located(ast.FunctionDef(_FUNCTION, none, statements, []), statements[0])
        function_name, target, _operator = what
        keys = dict.fromkeys(_first_argument(each) for each in statements)
        first = [ast.Name(target, ast.Load())] if target else []
        given = [*first, ast.Name(_FUNCTION, ast.Load()), *map(ast.Constant, keys)]
        call = ast.Expr(ast.Call(helper(function_name), given, []))
        found += [function, located(call, function), located(ast.Delete([ast.Name(_FUNCTION, ast.Del())]), function)]
    return found


def _put_off_note(statement: ast.stmt) -> None:
    """Let a call of `torch.fx.wrap`, with the name of a function, wait."""
    match statement:
        case ast.Expr(ast.Call(func=ast.Attribute() as path, args=[ast.Constant(value=str()) as name], keywords=[])):
            if ast.unparse(path) in _BODY_NOTES:
                statement.value = located(_note_in_body(path, name), statement)


def _note_in_body(path: ast.expr, *name: ast.expr) -> ast.Call:
    """The helper's call for it. Without a name it is a decorator."""
    given = [ast.Name("__name__", ast.Load()), ast.Constant(ast.unparse(path)), *name]
    return ast.Call(helper("note_in_body"), given, [])


def _waits_for(statement: ast.stmt) -> tuple[str, str, str] | None:
    """The helper's function that lets a statement wait, the object that it fills, and the operator that it defines.

    It is one call with a text first.
    """
    match statement:
        case ast.Expr(ast.Call(func=ast.Attribute() as function, args=[ast.Constant(value=str() as text), *_])):
            path = ast.unparse(function)
            if path in library_rules.OPERATOR_CALLS:
                return "defer_operators", "", text
            name, _, method = path.rpartition(".")
            if (name, method) in {(row.name, row.method) for row in library_rules.FILLED_OBJECTS}:
                return "defer_filling", name, ""
    return None


def _first_argument(statement: ast.stmt) -> str:
    call = statement.value if isinstance(statement, ast.Expr) else None
    first = call.args[0] if isinstance(call, ast.Call) else None
    return str(first.value) if isinstance(first, ast.Constant) else ""


def _waiting_calls(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Let calls of a function wait, as long as `_torch_layer.puts_off` says so."""
    given = function.args
    own = [ast.Name(each.arg, ast.Load()) for each in (*given.posonlyargs, *given.args)]
    question = ast.Call(helper("puts_off"), [ast.Name("__name__", ast.Load()), ast.Constant(function.name), *own], [])
    first = function.body[0]
    function.body.insert(0, located(ast.If(question, [ast.Return(None)], []), first))


def _body_imports(body: list[ast.stmt]) -> Iterator[ast.ImportFrom]:
    """The `from ... import` statements of a body, inside of `if` as well, without those for type checkers."""
    for statement in body:
        if isinstance(statement, ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If):
            yield from _body_imports([*_run_arm(statement), *statement.orelse])


def _run_arm(statement: ast.If) -> list[ast.stmt]:
    is_for_checkers = isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"
    return [] if is_for_checkers else statement.body


def _most_bindings(body: list[ast.stmt]) -> Counter[str]:
    """How often each name is bound at most, on any way through a body."""
    found: Counter[str] = Counter()
    for statement in body:
        if isinstance(statement, ast.If):
            found += _most_bindings(_run_arm(statement)) | _most_bindings(statement.orelse)
            rest: list[ast.AST] = [statement.test]
        else:
            rest = [statement]
        for each in rest:
            bound = BoundNames()
            bound.visit(each)
            found.update(bound.names)
    return found


class _BodyUses(ScopeWalker):
    """Which names a module's body needs. That one is bound is no need, nor is an annotation of a function of the body."""

    def __init__(self, module: str, names: Collection[str], future_annotations: bool) -> None:
        super().__init__(names, future_annotations)
        self.module = module
        self.classes: list[set[str]] = []  # what the classes around bind
        self.decorators = 0  # that wait
        self.texts: list[str] = []  # parameters of the function at hand whose annotations became texts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Store) and not self.functions:
            return node
        return super().visit_Name(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        bound = BoundNames()
        for each in node.body:
            bound.visit(each)
        self.classes.append(bound.names)
        visited = super().visit_ClassDef(node)
        self.classes.pop()
        return visited

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if (text := self._as_text(node.annotation)) is not None:
            node.annotation = text
            self.texts.append(node.arg)
            return node
        return super().visit_arg(node)

    def _function(self, node: Function) -> Function:
        if isinstance(node, ast.Lambda) or self.functions:
            return super()._function(node)
        node.decorator_list = [self._waiting_decorator(each) for each in node.decorator_list]
        if (self.module, node.name) in _PUT_OFF and not self.classes:
            _waiting_calls(node)
            self.decorators += 1
        self.texts = []
        if (text := self._as_text(node.returns)) is not None:
            node.returns = text
            self.texts.append("return")
        visited = super()._function(node)
        if self.texts and not isinstance(visited, ast.Lambda):
            note = ast.Call(helper("annotated"), [ast.Constant(each) for each in self.texts], [])
            visited.decorator_list.append(located(note, visited))
        self.texts = []
        return visited

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815

    def _waiting_decorator(self, node: ast.expr) -> ast.expr:
        """A decorator that waits: the module for which it does, and a function that calls it."""
        path, arguments = (node.func, node) if isinstance(node, ast.Call) else (node, None)
        if not (arguments or self.classes) and ast.unparse(path) in _BODY_NOTES:
            self.decorators += 1
            return located(_note_in_body(path), node)
        row = _DECORATORS.get(ast.unparse(path)) if isinstance(path, ast.Attribute) else None
        if row is None or (arguments is not None and arguments.args):
            return node
        self.decorators += 1
        own = ast.arguments(posonlyargs=[ast.arg("function")], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        real = ast.Lambda(own, ast.Call(node, [ast.Name("function", ast.Load())], []))
        name = "defer_decorator" if row.makes else "defer_note"
        return located(ast.Call(helper(name), [ast.Constant(row.module), real], []), node)

    def _as_text(self, annotation: ast.expr | None) -> ast.expr | None:
        """An annotation that names what waits as a text, if it would be evaluated now and needs nothing of a class around."""
        if annotation is None or self._future_annotations or self.functions:
            return None
        used = {each.id for each in ast.walk(annotation) if isinstance(each, ast.Name)}
        if not used & self.names or any(used & names for names in self.classes):
            return None
        return ast.copy_location(ast.Constant(ast.unparse(annotation)), annotation)


class _LibraryRewriter(_BodyUses, Rewriter):
    """Puts the questions in."""

    def __init__(self, module: ModuleText, names: Mapping[str, Origin], future_annotations: bool) -> None:
        Rewriter.__init__(self, module, names, [], future_annotations)
        self.module, self.classes, self.decorators, self.texts = module.name, [], 0, []
        self.homes = {
            (source, row.name): row.module
            for row in library_rules.LIBRARY_CLASSES
            for source in (row.module, *row.taken_from)
        }

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        if self.functions:
            return Rewriter.visit_ImportFrom(self, node)
        return node if self.classes else self.split(node)

    def answer(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Tuple):
            node.elts = [self.answer(each) for each in node.elts]
            return node
        if not self.functions:
            return node
        if isinstance(node, ast.Name):
            origin = None if any(node.id in names for names in self.local) else self.origins.get(node.id)
        else:
            source, _, name = (dotted_path(node) or "").rpartition(".")
            origin = source, name
        if origin is None or origin not in self.homes:
            return node
        self.answered += 1
        home = ast.Constant(self.homes[origin])
        return located(ast.Call(helper("class_if_made"), [home, ast.Constant(origin[1])], []), node)
