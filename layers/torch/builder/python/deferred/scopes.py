"""Which names a scope of a module binds, and which names of the module its functions and its body read."""

import ast
from collections.abc import Iterable

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class BoundNames(ast.NodeVisitor):
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


def _bound_in(node: Function) -> BoundNames:
    binds = BoundNames()
    arguments = node.args
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if each is not None:
            binds.names.add(each.arg)
    for part in node.body if isinstance(node.body, list) else [node.body]:
        binds.visit(part)
    binds.names -= binds.globals
    return binds


class ScopeWalker(ast.NodeTransformer):
    """Walks a module. It knows of every name whether it is the module's own, and whether the module's body reads it.

    Args:
        names: the names of the module that are looked for.
        future_annotations: annotations are not evaluated.

    Attributes:
        needed: those names that the module's body reads, or that something binds again.
    """

    def __init__(self, names: Iterable[str], future_annotations: bool) -> None:
        self.names = frozenset(names)
        self.needed: set[str] = set()
        self._future_annotations = future_annotations
        self.local: list[set[str]] = []  # the names of each scope around, from the outermost
        self.functions: list[Function] = []  # the functions around, from the outermost

    def use(self, node: ast.Name) -> ast.expr:
        """A use of a name of the module, in a function."""
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.names or any(node.id in names for names in self.local):
            return node
        if isinstance(node.ctx, ast.Load) and self.functions:
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
        if not (self.functions and isinstance(node.target, ast.Name)) and not self._future_annotations:
            node.annotation = self.visit(node.annotation)
        node.target = self.visit(node.target)
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def _function(self, node: Function) -> Function:
        arguments = node.args
        if not isinstance(node, ast.Lambda):
            node.decorator_list = [self.visit(each) for each in node.decorator_list]
            if node.name in self.names and not self.functions:
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
        self.local.append(binds.names)
        self.functions.append(node)
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            visited = [self.visit(each) for each in node.body]
            node.body = [part for each in visited for part in (each if isinstance(each, list) else [each])]
        self.functions.pop()
        self.local.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        binds = BoundNames()
        for each in node.body:
            binds.visit(each)
        # A class that binds the name itself: which of the two is meant where is not worth finding out.
        self.needed |= self.names & ({node.name} | binds.names)
        return self.generic_visit(node)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        targets = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
        node.generators[0].iter = self.visit(node.generators[0].iter)
        self.local.append(targets)
        for number, part in enumerate(node.generators):
            if number:
                part.iter = self.visit(part.iter)
            part.ifs = [self.visit(each) for each in part.ifs]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self.local.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815
