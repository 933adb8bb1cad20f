"""Step 2: leave out files that no program on Lambda can use. Rules are data, each with its reason.

All that a program could use at run time stays: the cold tiers are for what it does not use often. What is left out
needs a compiler, a test runner, or the machine that the wheel was built on.
"""

import os
import platform
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from builder.errors import BuildError


class PruneRule(NamedTuple):
    """Files that are left out."""

    name: str
    pattern: str  # matched against the start of the path below the tree
    reason: str
    unless: str = r"(?!)"  # of these, files that match this stay
    packages: tuple[
        str, ...
    ] = ()  # packages that have such files; where one has none, its new version needs another row


# What the C++ code that torch.compile writes includes: torch/csrc/inductor/cpp_prefix.h, and all that it includes by itself. With
# these it works where a function brings a compiler. `g++ -M` on the file that includes it lists them.
COMPILED_INCLUDES = (
    r"torch/csrc/(inductor/(cpp_prefix|aoti_torch/c/(macros|shim|shim_deprecated))|stable/version)\.h",
    r"torch/headeronly/(core/(DeviceType|ScalarType)\.h|(cpu|macros)/.+|util/.+|[^/]+)",
    r"ATen/cpu/vec/([^/]+|vec(256|512)/[^/]+|vec128/vec128\.h)",
    # Vectors of these are of one architecture.
    *((r"ATen/cpu/vec/(vec128|sve)/[^/]+",) if platform.machine() == "aarch64" else ()),
    r"ATen/(AccumulateType|Config|NumericUtils|jiterator_macros|core/PhiloxRNGEngine)\.h",
    r"ATen/native/(Math|cpu/zmath|quantized/AffineQuantizerBase)\.h",
    r"c10/(core/(DeviceType|ScalarType)|macros/[^/]+)\.h",
    r"c10/util/(ArrayRef|Backtrace|Exception|Lazy|Load|MathConstants|SmallVector|StringUtil|TypeCast|TypeSafeSignMath)\.h",
    r"c10/util/(BFloat16|Float4|Float8|Half|complex|q(u)?int)[^/-]*(-math)?\.h",
    r"c10/util/(bits|copysign|generic_math|hash|irange|overflows|string_utils)\.h",
    r"sleef\.h",
)

RULES = (
    PruneRule(
        "headers",
        r"(torch/include/|numpy/_core/include/|torch/share/cmake/|numpy/_core/lib/(npy-)?pkg-?config/)",
        "C++ headers, CMake and pkg-config files serve a compiler, and a Lambda runtime has none",
        unless=rf"torch/include/({'|'.join(COMPILED_INCLUDES)})$",
        packages=("torch", "numpy"),
    ),
    PruneRule(
        "sources for a compiler",
        r"(numpy/.*\.(pxd|pyx)|torch/utils/benchmark/utils/valgrind_wrapper/.*\.(h|cpp))$",
        "Cython declarations, and sources that a benchmark compiles for valgrind",
        packages=("torch", "numpy"),
    ),
    PruneRule("static libraries", r".*\.(a|lib)$", "input of a linker, and a Lambda runtime has none"),
    PruneRule(
        "test binaries",
        r"torch/(bin|test)/",
        "C++ test programs and their data, and protoc, which generates sources",
        unless=r"torch/bin/torch_shm_manager$",  # `import torch` fails without it
        packages=("torch",),
    ),
    PruneRule(
        "test libraries",
        r"torch/lib/lib(torchbind_test|jitbackend_test|backend_with_compiler|aoti_custom_ops)\.so$",
        "libraries that only torch's own tests load",
        packages=("torch",),
    ),
    PruneRule(
        "test extensions of numpy",
        r"numpy/_core/(_simd|_(umath|rational|operand_flag|struct_ufunc)_tests)\.[^/]+\.so$",
        "extension modules that only numpy's own tests import (numpy/_core/meson.build: 'Generate sources for testing')",
        packages=("numpy",),
    ),
    PruneRule(
        "type stubs",
        r"(torch|torchgen|functorch|numpy)/.*\.pyi$",
        "read by type checkers only; other packages' stubs stay, since `lazy_loader.attach_stub` reads them at run time",
        packages=("torch", "numpy"),
    ),
    PruneRule(
        "tests of dependencies",
        r"(numpy|sympy|networkx|mpmath|fsspec|setuptools)/(.*/)?tests/",
        "unit tests that only those projects' own development runs; numpy.testing and sympy.testing stay",
    ),
    PruneRule(
        "console scripts",
        r"bin/",
        "their first line is the path of the build's interpreter; `python -m` runs the same modules",
    ),
    PruneRule("manual pages", r"share/man/", "read by people at a terminal"),
    PruneRule(
        "installer's notes",
        r"[^/]+\.dist-info/(REQUESTED|direct_url\.json|sboms/.*)$",
        "paths of the build machine, and bills of materials (the wheels have them); METADATA, entry points and licences "
        "stay, and RECORD, without its hashes",
    ),
    PruneRule("bytecode", r"(.*/)?__pycache__/", "made again as unchecked-hash bytecode"),
)


class Pruned(NamedTuple):
    """How much a rule left out."""

    rule: str
    reason: str
    files: int
    bytes: int


def rule_for(path: str) -> PruneRule | None:
    """The rule by which the file at `path`, relative to the tree, is left out; None if it stays."""
    for rule in RULES:
        if re.match(rule.pattern, path) and not re.match(rule.unless, path):
            return rule
    return None


def prune(source: Path, destination: Path) -> list[Pruned]:
    """Make `destination` a copy of the tree `source`, without the files of the rules.

    Files are hard links where the file system allows it. So a later step must replace a file, and never write into it.

    Raises:
        BuildError: A symbolic link points out of the tree; on Lambda it would be broken.
    """
    counts: dict[str, list[int]] = {rule.name: [0, 0] for rule in RULES}
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
            raise BuildError(
                f"{relative} links to {path.resolve()}, outside of the layer",
                "leave out the package that it belongs to",
            )
        if path.is_dir():
            continue
        rule = rule_for(relative.as_posix())
        if rule is not None:
            counts[rule.name][0] += 1
            counts[rule.name][1] += path.lstat().st_size
            continue
        target = destination / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        link(path, target)
    return [Pruned(rule.name, rule.reason, *counts[rule.name]) for rule in RULES]


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if that cannot be done. A symbolic link becomes a file."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
