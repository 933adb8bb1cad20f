"""The source of a module, as the deferring works on it."""

import ast
from typing import NamedTuple

# Module and attribute that a name is taken from.
Origin = tuple[str, str]


class ModuleText(NamedTuple):
    """A module's source.

    Attributes:
        name: `torch.fx.graph`.
        is_package: whether relative imports start at the module itself.
        source: its text.
    """

    name: str
    is_package: bool
    source: bytes

    def parse(self) -> ast.Module:
        """A new syntax tree of the module. Raises SyntaxError where this Python cannot parse it."""
        return ast.parse(self.source)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that a `from ... import` in this one names, without dots in front."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        parts = package[: len(package) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])


def has_future_annotations(tree: ast.Module) -> bool:
    """Whether annotations of the module are not evaluated (`from __future__ import annotations`)."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )
