"""Rewrites a module so that names which it takes from a held module wait until they are used.

    from torch.fx import Graph                  _torch_layer.defer(__name__, 'torch.fx')

    def trace(root):                            def trace(root):
        return Graph(root)                          return (Graph if _torch_layer.ready
                                                            else _torch_layer.resolve(__name__, 'Graph'))(root)

Only names that the module's body itself never reads can wait: those used in functions. After the import was completed, a
rewritten module computes what the original does, object for object; before that, the first use of such a name completes it. Line
numbers stay, and `inspect` shows the original source.

A question whether something is an instance of a class can be answered without the class while its module has not run: of a class
that was never made there are no instances. `rules.UNBORN` lists the classes for which this is done.

A whole statement of the body can wait as well (`rules.LATER`), if the body does not read what it binds:

    import unittest.mock                        def _torch_layer_later():
                                                    global unittest
                                                    import unittest.mock
                                                _torch_layer.later(__name__, _torch_layer_later, 'unittest')
                                                del _torch_layer_later
"""

import ast
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeGuard, TypeVar

HELPER = "_torch_layer"
_LATER = "_torch_layer_later"
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Origin = tuple[str, str]  # module, attribute
_Node = TypeVar("_Node", bound=ast.AST)


class Module(NamedTuple):
    """A module's source.

    Attributes:
        name: `torch.fx.graph`.
        is_package: whether relative imports start at the module itself.
        source: its text.
    """

    name: str
    is_package: bool
    source: bytes


class Answer(NamedTuple):
    """What a function returns until the import is completed.

    Attributes:
        value: a Python expression.
        when: another one, in the function's own terms; where it is not true, the function runs.
    """

    value: str
    when: str


def deferrable(module: Module, is_module: Callable[[str], bool], later: Collection[str] = ()) -> dict[str, _Origin]:
    """The names that could wait, each with where it comes from.

    Args:
        module: the module that imports.
        is_module: whether a dotted name is a module: `from torch import fx` binds a module object, which may be held itself.
        later: statements of the module's body that wait, each by its first line.
    """
    tree = ast.parse(module.source)
    _put_off(tree, module, later)
    imports = _Imports(tree, module, is_module)
    uses = _Uses(imports.names, _has_future_annotations(tree))
    uses.visit(tree)
    return {name: origin for name, origin in imports.names.items() if name not in uses.needed}


def names_bound_later(module: Module, later: Collection[str]) -> tuple[str, ...]:
    """The names that are not there before these statements of the module's body have run, each given by its first line.

    Raises:
        ValueError: there is no such statement, or the rest of the module's body needs what it binds.
    """
    tree = ast.parse(module.source)
    names = _put_off(tree, module, later)
    rest = _Binds()
    uses = _Uses(names, _has_future_annotations(tree))
    for statement in tree.body:
        if not (isinstance(statement, ast.FunctionDef) and statement.name == _LATER):
            rest.visit(statement)
            uses.visit(statement)
    if needed := sorted(set(names) & (rest.names | uses.needed)):
        raise ValueError(f"{module.name} needs {', '.join(needed)} at once")
    return names


def rewrite(
    module: Module,
    names: Mapping[str, _Origin],
    unborn: Collection[_Origin],
    answers: Mapping[str, Answer],
    later: Collection[str] = (),
) -> ast.Module:
    """The module's tree, with these names deferred.

    Args:
        module: the module that imports.
        names: of those that `deferrable` gave, the ones to defer.
        unborn: classes of held modules that have no instances before their module has run.
        answers: functions of the module, each with what it returns until the import is completed.
        later: statements of the module's body that wait, each by its first line.

    Raises:
        ValueError: the module has no such function, or no such statement.
    """
    tree = ast.parse(module.source)
    put_off = _put_off(tree, module, later)
    rewriter = _Rewriter(module, names, unborn, _has_future_annotations(tree), put_off)
    rewriter.visit(tree)
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    for name, value in answers.items():
        if name not in functions:
            raise ValueError(f"{module.name} has no function {name}")
        _answer_first(functions[name], value)
    body: list[ast.stmt] = []
    for statement in tree.body:
        body.extend(rewriter.split(statement) if isinstance(statement, ast.ImportFrom) else [statement])
        if isinstance(statement, ast.FunctionDef) and statement.name == _LATER:
            body.extend(_handed_over(statement))
    tree.body = body
    ast.fix_missing_locations(tree)
    return tree


def _put_off(tree: ast.Module, module: Module, later: Collection[str]) -> tuple[str, ...]:
    """Make functions of statements of the body, and return the names that they bind. Raises ValueError if one is not there."""
    lines = [ast.unparse(each).partition("\n")[0] for each in tree.body] if later else []
    bound: dict[str, None] = {}
    for line in later:
        if lines.count(line) != 1:
            raise ValueError(f"{module.name} has not one statement {line!r}")
        at = lines.index(line)
        binds = _Binds()
        binds.visit(tree.body[at])
        names = sorted(binds.names)
        bound.update(dict.fromkeys(names))
        none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        body = [ast.Global(names), tree.body[at]] if names else [tree.body[at]]
        function = ast.FunctionDef(_LATER, none, body, [])
        tree.body[at] = ast.fix_missing_locations(ast.copy_location(function, tree.body[at]))
    return tuple(bound)


def _handed_over(function: ast.FunctionDef) -> list[ast.stmt]:
    first = function.body[0]
    names = first.names if isinstance(first, ast.Global) else []
    arguments = [ast.Name("__name__", ast.Load()), ast.Name(_LATER, ast.Load()), *map(ast.Constant, names)]
    call = ast.Expr(ast.Call(_helper("later"), arguments, []))
    return [_located(call, function), _located(ast.Delete([ast.Name(_LATER, ast.Del())]), function)]


def _answer_first(function: ast.FunctionDef, value: Answer) -> None:
    question: ast.expr = ast.UnaryOp(ast.Not(), _helper("ready"))
    if value.when:
        question = ast.BoolOp(ast.And(), [question, ast.parse(value.when, mode="eval").body])
    answer = ast.Return(ast.parse(value.value, mode="eval").body)
    has_text = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
    first = function.body[1 if has_text else 0]
    function.body.insert(1 if has_text else 0, _located(ast.If(question, [answer], []), first))


def asks_for_unborn(module: Module, unborn: Collection[_Origin]) -> bool:
    """Whether the module has a question that `rewrite` would answer for it."""
    tree = ast.parse(module.source)
    rewriter = _Rewriter(module, {}, unborn, _has_future_annotations(tree))
    rewriter.visit(tree)
    return rewriter.answered > 0


def absolute(node: ast.ImportFrom, module: Module) -> str:
    """The module that a `from ... import` names, without dots in front."""
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _has_future_annotations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


class _Imports:
    """The names that a module's body binds by one `from ... import`, and by nothing else."""

    def __init__(self, tree: ast.Module, module: Module, is_module: Callable[[str], bool]) -> None:
        found: dict[str, list[_Origin]] = {}
        other = _Binds()
        for statement in tree.body:
            if not isinstance(statement, ast.ImportFrom):
                other.visit(statement)
                continue
            source = absolute(statement, module)
            for alias in statement.names:
                if source == "__future__" or alias.name == "*" or is_module(f"{source}.{alias.name}"):
                    other.names.add(alias.asname or alias.name)
                else:
                    found.setdefault(alias.asname or alias.name, []).append((source, alias.name))
        self.names = {
            name: origins[0] for name, origins in found.items() if len(origins) == 1 and name not in other.names
        }


class _Binds(ast.NodeVisitor):
    """The names that one scope binds, without those of the functions and classes in it."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.globals: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.names.add(node.name)
        for each in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if each is not None:
                self.visit(each)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """A scope of its own."""

    def visit_Global(self, node: ast.Global) -> None:
        self.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.names.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.names.update([node.name] if node.name else [])
        self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> None:
        self.names.add((node.asname or node.name).split(".")[0])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.names.update([node.name] if node.name else [])
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.names.update([node.name] if node.name else [])

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.names.update([node.rest] if node.rest else [])
        self.generic_visit(node)

    def _comprehension(self, node: ast.expr) -> None:
        # Its targets are its own; only an assignment expression binds outside of it.
        self.names.update(each.target.id for each in ast.walk(node) if isinstance(each, ast.NamedExpr))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815


def _bound_in(node: _Function) -> _Binds:
    binds = _Binds()
    arguments = node.args
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if each is not None:
            binds.names.add(each.arg)
    for part in node.body if isinstance(node.body, list) else [node.body]:
        binds.visit(part)
    binds.names -= binds.globals
    return binds


class _Scopes(ast.NodeTransformer):
    """Walks a module and knows of every name whether it is the module's, and whether it is read while the module's body runs."""

    def __init__(self, names: Iterable[str], future_annotations: bool) -> None:
        self.names = frozenset(names)
        self.needed: set[str] = set()  # read by the module's body, or bound again somewhere
        self._future_annotations = future_annotations
        self._local: list[set[str]] = []
        self._functions: list[_Function] = []  # from the outermost to the one that is being walked

    def use(self, node: ast.Name) -> ast.expr:
        """A use of a name of the module, in a function."""
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.names or any(node.id in names for names in self._local):
            return node
        if isinstance(node.ctx, ast.Load) and self._functions:
            return self.use(node)
        self.needed.add(node.id)
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.MatchClass:
        # `case Name(...)` takes a name and no other expression.
        self.needed.update(each.id for each in ast.walk(node.cls) if isinstance(each, ast.Name))
        node.patterns = [self.visit(each) for each in node.patterns]
        node.kwd_patterns = [self.visit(each) for each in node.kwd_patterns]
        return node

    def _annotation(self, node: ast.expr | None) -> ast.expr | None:
        if node is None or self._future_annotations:
            return node
        visited: ast.expr = self.visit(node)
        return visited

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = self._annotation(node.annotation)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        # Python does not evaluate the annotations of local variables.
        if not (self._functions and isinstance(node.target, ast.Name)) and not self._future_annotations:
            node.annotation = self.visit(node.annotation)
        node.target = self.visit(node.target)
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def _function(self, node: _Function) -> _Function:
        arguments = node.args
        if not isinstance(node, ast.Lambda):
            node.decorator_list = [self.visit(each) for each in node.decorator_list]
            if node.name in self.names and not self._functions:
                self.needed.add(node.name)
            node.returns = self._annotation(node.returns)
            for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                self.visit(each)
            for star in (arguments.vararg, arguments.kwarg):
                if star is not None:
                    self.visit(star)
        for parameter in getattr(node, "type_params", []):
            self.visit(parameter)
        arguments.defaults = [self.visit(each) for each in arguments.defaults]
        arguments.kw_defaults = [each and self.visit(each) for each in arguments.kw_defaults]
        binds = _bound_in(node)
        self.needed |= binds.globals & self.names
        self._local.append(binds.names)
        self._functions.append(node)
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            visited = [self.visit(each) for each in node.body]
            node.body = [part for each in visited for part in (each if isinstance(each, list) else [each])]
        self._functions.pop()
        self._local.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        binds = _Binds()
        for each in node.body:
            binds.visit(each)
        # A class that binds the name itself: who means which is not worth finding out.
        self.needed |= self.names & ({node.name} | binds.names)
        return self.generic_visit(node)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        targets = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
        node.generators[0].iter = self.visit(node.generators[0].iter)
        self._local.append(targets)
        for number, part in enumerate(node.generators):
            if number:
                part.iter = self.visit(part.iter)
            part.ifs = [self.visit(each) for each in part.ifs]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self._local.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815


class _Uses(_Scopes):
    """Only looks."""


class _Rewriter(_Scopes):
    """Puts the questions in, and answers `isinstance` of unborn classes."""

    def __init__(
        self,
        module: Module,
        names: Mapping[str, _Origin],
        unborn: Collection[_Origin],
        future_annotations: bool,
        later: Collection[str] = (),
    ) -> None:
        super().__init__({*names, *later}, future_annotations)
        self.answered = 0
        self._module, self._origins, self._unborn = module, names, frozenset(unborn)
        self._paths = {f"{origin}.{name}" for origin, name in self._unborn}

    def use(self, node: ast.Name) -> ast.expr:
        question = ast.Call(_helper("resolve"), [ast.Name("__name__", ast.Load()), ast.Constant(node.id)], [])
        return _located(ast.IfExp(_helper("ready"), node, question), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_question(node):
            node.args[1] = self._answer(node.args[1])
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`type(x) is FakeTensor`."""
        if all(isinstance(each, ast.Is | ast.IsNot) for each in node.ops):
            node.comparators = [self._answer(each) for each in node.comparators]
        return self.generic_visit(node)

    def _answer(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Tuple):
            node.elts = [self._answer(each) for each in node.elts]
        elif _path(node) in self._paths or (
            isinstance(node, ast.Name)
            and self._origins.get(node.id) in self._unborn
            and self._functions
            and not any(node.id in names for names in self._local)
        ):
            self.answered += 1
            # The class itself is behind `ready`, so it need not be asked for once more.
            return _located(_Answered(_helper("ready"), node, ast.Tuple([], ast.Load())), node)
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return node if isinstance(node, _Answered) else super().generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        """In a function: `from torch._subclasses.fake_tensor import FakeTensor`, for questions only."""
        source = absolute(node, self._module)
        born = [
            alias
            for alias in node.names
            if self._functions and (source, alias.name) in self._unborn and self._only_asked(alias)
        ]
        if not born:
            return node
        self.answered += len(born)
        statements: list[ast.stmt] = [
            _located(
                ast.Assign(
                    [ast.Name(alias.asname or alias.name, ast.Store())],
                    ast.Call(_helper("born"), [ast.Constant(source), ast.Constant(alias.name)], []),
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
        function = self._functions[-1]
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
        rest = [alias for alias in node.names if (alias.asname or alias.name) not in self.names]
        if len(rest) == len(node.names):
            return [node]
        call = ast.Call(
            _helper("defer"),
            [ast.Name("__name__", ast.Load()), ast.Constant(absolute(node, self._module))],
            [],
        )
        statements: list[ast.stmt] = [_located(ast.Expr(call), node)]
        if rest:
            node.names = rest
            statements.append(node)
        return statements


class _Answered(ast.IfExp):
    """An answer that is in place."""


def _is_question(node: ast.AST) -> TypeGuard[ast.Call]:
    """`isinstance(x, ...)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and len(node.args) == 2
    )


def _helper(attribute: str) -> ast.Attribute:
    return ast.Attribute(ast.Name(HELPER, ast.Load()), attribute, ast.Load())


def _located(node: _Node, like: ast.AST) -> _Node:
    for each in ast.walk(node):
        # What is new, or was parsed apart, gets the place of what it stands for.
        if each is not like and getattr(each, "lineno", 1) == 1:
            ast.copy_location(each, like)
    return node


def _path(node: ast.expr) -> str | None:
    """`torch._subclasses.fake_tensor.FakeTensor` of an expression that is just that."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
