"""Which tier each Python module belongs to: rules, and what the recorded profile says. Nothing is read or written here.

A module of a *packed* package leaves the file system and goes into `modules.cold`. Its tier says in what form:

- hot: the workload imported it. Its bytecode lies in blocks of its own, in the order of the imports;
- deferred: hot as well, but it does not run before something touches it. A start does not read these blocks;
- extra: the workload of the extra packages, which a user adds, imported it. Its bytecode lies in blocks of their own,
  which a start without these packages does not read. Modules of the layer's own packages keep their source among the cold
  ones: so all other blocks are those of a layer without extra packages, and a build need not make them again;
- warm: only the checks of code that the workload does not touch imported it (training, export, compile ...). It is
  stored as a hot one is, in blocks of its own;
- cold: all others. The source alone is kept, and is compiled when it is imported.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

# The layer's own packages whose modules leave the file system. Each was searched for code that lists or opens its own
# sources; STAYING has what was found. `extras` decides for the packages that a user adds.
PACKED = frozenset(
    {
        "torch",
        "torchgen",
        "functorch",
        "numpy",
        "sympy",
        "networkx",
        "mpmath",
        "jinja2",
        "markupsafe",
        "fsspec",
        "filelock",
    }
    | {"setuptools", "_distutils_hack", "pkg_resources"}
)


class StayingFile(NamedTuple):
    """Sources of packed packages that stay as files."""

    pattern: str  # matched against the whole path below the tree
    reason: str


STAYING = (
    StayingFile(
        r"torch/_dynamo/backends/[^/]+\.py",
        "torch._dynamo.backends.registry lists its folder and imports what it finds",
    ),
    StayingFile(
        r"torch/_inductor/kernel/[^/_][^/]*\.py", "torch._inductor.lowering lists the folder and imports what it finds"
    ),
    StayingFile(r"torch/_export/db/examples/[^/]+\.py", "torch._export.db.examples globs its folder"),
    StayingFile(
        r"torch/_higher_order_ops/[^/]+\.py",
        "torch.fx.experimental.symbolic_shapes globs it, to leave its frames out of messages",
    ),
    StayingFile(r"torch/package/_mock\.py", "torch.package copies it, by path, into every package that it exports"),
    StayingFile(
        r"torch/_inductor/(compile_worker/__main__|__autotune_main__)\.py", "started by path as a script of its own"
    ),
)

# The checks import these, but no function does: their bytecode need not lie ready. setuptools is torch's requirement
# for building C++ extensions, which takes a compiler.
NEVER_WARM = frozenset({"setuptools", "_distutils_hack", "pkg_resources"})

# Small packages that a program may use alone: each has blocks of its own. Otherwise a function that fills a template would
# decompress 16 MB of what only torch.compile imports: 34 ms of processor time, and 1 ms with this.
USED_ALONE = ("markupsafe", "jinja2")


class RecordedModules(NamedTuple):
    """What the recorded profile says of modules."""

    hot: tuple[str, ...]  # names, in the order in which the workload imports them
    warm: frozenset[str]  # names
    sources: frozenset[str]  # paths of sources that the workload reads as text
    extra: tuple[str, ...] = ()  # names, in the order in which the workload of extra packages imports them


@dataclass(frozen=True)
class Tiers:
    """The modules of the packed packages by tier. Every path is relative to the tree, `torch/nn/__init__.py`.

    Each of `modules` is in exactly one of `hot`, `extra`, `warm` and `cold`, but for those of `read_as_text`, which may be hot
    as well, and extra ones of the layer's own packages, which are cold as well.

    Attributes:
        packages: The packed packages that the tree has, `torch`, in order of names.
        modules: All of their modules, in order of paths.
        staying: Those of `modules` whose source stays a file (`STAYING`).
        hot: Those that the workload imported, in that order.
        deferred: Those of `hot` that do not run before something touches them.
        extra: Those that only the workload of extra packages imported, in that order. Their bytecode is kept.
        warm: Those that only the checks imported, in order of paths.
        read_as_text: Those whose source the workload reads, without the warm ones; in order of paths.
        cold: All others, in order of paths.
    """

    packages: tuple[str, ...]
    modules: tuple[str, ...]
    staying: frozenset[str]
    hot: tuple[str, ...]
    deferred: frozenset[str]
    extra: tuple[str, ...]
    warm: tuple[str, ...]
    read_as_text: tuple[str, ...]
    cold: tuple[str, ...]

    @property
    def packed(self) -> frozenset[str]:
        """The modules whose source leaves the file system."""
        return frozenset(self.modules) - self.staying

    @property
    def compiled(self) -> tuple[str, ...]:
        """The modules whose bytecode is kept, in the order in which it is compiled."""
        return (*self.hot, *self.warm, *self.extra)


def module_name(path: str) -> str:
    """`torch.nn` for `torch/nn/__init__.py`."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def stays_a_file(path: str) -> bool:
    """Whether the source at `path`, relative to the tree, stays as a file by rule."""
    return any(re.fullmatch(rule.pattern, path) for rule in STAYING)


def packages_of(paths: Sequence[str], packed: Collection[str] = PACKED) -> tuple[str, ...]:
    """Those of the `packed` packages that a tree with these paths has, in order of names."""
    return tuple(sorted(set(packed).intersection(path.removesuffix("/__init__.py") for path in paths)))


def classify(
    paths: Sequence[str],
    recorded: RecordedModules,
    deferred: Collection[str],
    packed: Collection[str] = PACKED,
) -> Tiers:
    """The tier of every module.

    Args:
        paths: All files of the tree, relative to it, in order.
        recorded: What the workload and the checks imported.
        deferred: Names of the modules that do not run before something touches them.
        packed: Top-level packages whose modules may leave the file system.
    """
    packages = packages_of(paths, packed)
    modules = tuple(path for path in paths if path.endswith(".py") and path.split("/")[0] in packages)
    by_name = {module_name(path): path for path in modules}

    hot = tuple(by_name[name] for name in recorded.hot if name in by_name)
    imported_by_checks = {
        by_name[name] for name in recorded.warm if name in by_name and name.split(".")[0] not in NEVER_WARM
    }
    warm = tuple(sorted(imported_by_checks.difference(hot)))
    there = {*hot, *warm}
    used = dict.fromkeys(by_name[name] for name in recorded.extra if name in by_name)
    extra = tuple(path for path in used if path not in there)
    read = tuple(path for path in modules if path in recorded.sources and path not in set(warm))
    elsewhere = {*hot, *warm, *read, *(path for path in extra if path.split("/")[0] not in PACKED)}
    return Tiers(
        packages=packages,
        modules=modules,
        staying=frozenset(filter(stays_a_file, modules)),
        hot=hot,
        deferred=frozenset(path for path in hot if module_name(path) in deferred),
        extra=extra,
        warm=warm,
        read_as_text=read,
        cold=tuple(path for path in modules if path not in elsewhere),
    )
