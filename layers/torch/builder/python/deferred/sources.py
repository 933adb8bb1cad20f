"""The sources of a tree's packages, and what was found out about each."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.python.deferred import candidates, defer, rules
from builder.python.deferred.module_text import ModuleText, Origin

CLASSES = frozenset((rule.module, rule.name) for rule in rules.CLASSES_WITHOUT_INSTANCES)


class SourceTree:
    """The Python modules of a tree's packages that may take part.

    Args:
        tree: a folder of packages.
        packages: which of them.

    Attributes:
        torch: the version of the tree's torch, major and minor; that of the newest rules where the tree does not say it.
    """

    def __init__(self, tree: Path, packages: Sequence[str] = rules.PACKAGES) -> None:
        self._tree = tree
        paths = [path for package in packages for path in sorted((tree / package).rglob("*.py"))]
        self._paths = {self._name(path): path for path in paths}
        self._deferrable: dict[str, dict[str, Origin]] = {}
        self._asks: dict[str, bool] = {}
        self._rebound: dict[str, frozenset[str]] = {}
        self.torch = _torch_version(tree)

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self._tree).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def is_attribute(self, name: str) -> bool:
        """Whether a dotted name is a module, and its package's attribute of that name is this module too."""
        package, _, tail = name.rpartition(".")
        if name not in self or package not in self:
            return name in self
        if package not in self._rebound:
            self._rebound[package] = candidates.rebound(self.module(package))
        return tail not in self._rebound[package]

    def module(self, name: str) -> ModuleText:
        """A module, read."""
        path = self._paths[name]
        return ModuleText(name, path.name == "__init__.py", path.read_bytes())

    def path(self, name: str) -> str:
        """Where it lies in the tree."""
        return self._paths[name].relative_to(self._tree).as_posix()

    def deferrable(self, name: str) -> dict[str, Origin]:
        """`candidates.deferrable` of a module, looked for once."""
        if name not in self._deferrable:
            module = self.module(name)
            alone = rules.is_left_alone(name, module.source)
            waiting = deferred_statements_of(self, name)
            found = {} if alone else candidates.deferrable(module, self.is_attribute, waiting)
            self._deferrable[name] = {
                bound: origin for bound, origin in found.items() if origin[0].split(".")[0] in rules.PACKAGES
            }
        return self._deferrable[name]

    def asks_for_classes(self, name: str) -> bool:
        """`defer.asks_for_classes` of a module, looked for once."""
        if name not in self._asks:
            module = self.module(name)
            named = any(rule.name.encode() in module.source for rule in rules.CLASSES_WITHOUT_INSTANCES)
            alone = rules.is_left_alone(name, module.source)
            self._asks[name] = named and not alone and defer.asks_for_classes(module, CLASSES)
        return self._asks[name]


def _torch_version(tree: Path) -> tuple[int, int]:
    """What torch/version.py says; beyond every rule's range where there is none."""
    file = tree / "torch" / "version.py"
    found = re.search(r"(?m)^__version__ = ['\"](\d+)\.(\d+)", file.read_text("utf-8")) if file.is_file() else None
    return (int(found[1]), int(found[2])) if found else rules.NEWEST


def deferred_statements_of(sources: SourceTree, name: str) -> tuple[str, ...]:
    """The first lines of the statements of a module that wait."""
    return tuple(rule.line for rule in rules.applying(rules.DEFERRED_STATEMENTS, sources.torch) if rule.module == name)
