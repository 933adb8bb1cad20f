"""Step 5, the Python half: modules go into `modules.cold`, bytecode in the order in which it is imported. See ../DESIGN.md.

Three temperatures, from the recorded profile:

- hot (imported by the workload): the bytecode is in blocks of its own, in the order of the imports;
- warm (imported only by the checks of code that the workload does not touch: training, export, compile ...): bytecode and
  source side by side;
- cold (all the rest): the source alone, compiled when it is imported.

Hot bytecode is packed as well, because it packs to a quarter: reading and unpacking one block of some eighty modules costs no
more than opening eighty files, and reads a quarter of the bytes from storage. Tracebacks through packed modules show lines
without the ^^^^ below them: the columns would be a quarter of the packed bytecode.
"""

import marshal
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from builder import paths
from builder.python import archive_writer, bytecode
from builder.python.deferred import planning as plans
from builder.stage.prune import link
from torch_layer import ARCHIVE_FILE

# Where the layer lies on Lambda; bytecode carries it, and is corrected at import where the layer is tried elsewhere.
DEPLOYED = "/opt/python"
MODULE, PACKAGE, NAMESPACE = range(3)  # as torch_layer.finder has them

# Packages whose modules may leave the file system: each was looked through for code that lists or opens its own sources, and what
# does so is in LISTED. Others (extra requirements) stay as files with bytecode: transformers, for one, lists its own folders.
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


class Listed(NamedTuple):
    """Sources of packed packages that stay as files."""

    pattern: str
    reason: str


LISTED = (
    Listed(
        r"torch/_dynamo/backends/[^/]+\.py",
        "torch._dynamo.backends.registry lists its folder and imports what it finds",
    ),
    Listed(
        r"torch/_inductor/kernel/[^/_][^/]*\.py", "torch._inductor.lowering lists the folder and imports what it finds"
    ),
    Listed(r"torch/_export/db/examples/[^/]+\.py", "torch._export.db.examples globs its folder"),
    Listed(
        r"torch/_higher_order_ops/[^/]+\.py",
        "torch.fx.experimental.symbolic_shapes globs it, to leave its frames out of messages",
    ),
    Listed(r"torch/package/_mock\.py", "torch.package copies it, by path, into every package that it exports"),
    Listed(
        r"torch/_inductor/(compile_worker/__main__|__autotune_main__)\.py", "started by path as a script of its own"
    ),
)

# Imported by checks, but by no function: their bytecode need not lie ready. setuptools is torch's requirement for building C++
# extensions, which takes a compiler.
NEVER_WARM = frozenset({"setuptools", "_distutils_hack", "pkg_resources"})

_STUB = "__import__('torch_layer.finder').finder.enter(globals())\n"


class Temperatures(NamedTuple):
    """What the recorded profile says of modules."""

    hot: tuple[str, ...]  # names in the order in which the workload imports them
    warm: frozenset[str]
    sources: frozenset[str]  # paths of sources that the workload reads as text


class Bundled(NamedTuple):
    """What became of the Python modules."""

    hot: int
    warm: int
    cold: int
    source_bytes: int  # of all packed modules, as they were
    bytecode_bytes: int  # of the hot and the warm ones, before compression
    archive_bytes: int


def module_name(path: str) -> str:
    """`torch.nn` for `torch/nn/__init__.py`."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_listed(path: str) -> bool:
    """Whether the source stays as a file by rule."""
    return any(re.fullmatch(rule.pattern, path) for rule in LISTED)


def bundle(
    staged: Path,
    output: Path,
    temperatures: Temperatures,
    *,
    held: plans.HeldModules = plans.HeldModules(),  # noqa: B008 -- a tuple
    packed: frozenset[str] = PACKED,
    progress: Callable[[float], None] = lambda _part: None,
) -> Bundled:
    """Make `output` from the staged tree, with its Python modules in their tiers and the run-time package beside them.

    Args:
        staged: The tree after strip; left as it is. Files that go over unchanged are hard links.
        output: A folder that does not exist.
        temperatures: Which modules are hot, which are warm.
        held: Which modules of torch and of NumPy wait until they are touched.
        packed: Top-level packages whose modules may leave the file system.
        progress: Called with the part that is done, 0 to 1.
    """
    paths = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    tops = sorted(packed.intersection(path.removesuffix("/__init__.py") for path in paths))
    modules = [path for path in paths if path.endswith(".py") and path.split("/")[0] in tops]
    moved = {path for path in modules if not is_listed(path)}
    for path in paths:
        if path not in moved:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            link(staged / path, output / path)

    texts = {path: (staged / path).read_bytes() for path in paths if path.endswith(".py")}
    names = {module_name(path): path for path in modules}
    hot = [names[name] for name in temperatures.hot if name in names]
    ready = (name for name in temperatures.warm if name in names and name.split(".")[0] not in NEVER_WARM)
    warm = sorted({names[name] for name in ready}.difference(hot))
    _write_cached(output, {path: texts[path] for path in texts if path not in set(modules)})
    sources_of_torch = plans.SourceTree(staged)
    plan = plans.make(sources_of_torch, held)
    plan_of_numpy = plans.of_numpy(plans.SourceTree(staged, ["numpy"]), held.numpy)
    waiting = frozenset([*plan.held, *plan_of_numpy.held])
    codes = _compile(
        {path: texts[path] for path in [*hot, *warm]},
        positions=False,
        progress=lambda part: progress(part / 3),
        rewritings={names[name]: plans.rewriting(sources_of_torch, plan, name) for name in plan.deferred_names},
    )
    sources = {path: archive_writer.Blob(path, False, texts[path]) for path in modules if path in moved}
    compiled = {path: archive_writer.Blob(path, True, code) for path, code in codes.items()}
    read = [path for path in modules if path in temperatures.sources and path not in set(warm)]
    rest = [path for path in modules if path not in {*hot, *warm, *read} or (path in hot and path not in codes)]
    _copy_run_time(output)
    size = archive_writer.write(
        output / "torch_layer" / ARCHIVE_FILE,
        {
            "magic": MAGIC_NUMBER,
            "table": _table(paths, modules, tops),
            "plans": {each.root: each._asdict() for each in (plan_of_numpy, plan)},
        },
        [
            # A start does not read what it holds back.
            *(
                archive_writer.Group(
                    [compiled[path] for path in group if path in compiled],
                    [sources[path] for path in group if path in sources and path not in read],
                )
                for group in (
                    [path for path in hot if module_name(path) not in waiting],
                    [path for path in hot if module_name(path) in waiting],
                )
            ),
            archive_writer.Group([sources[path] for path in read if path in sources]),
            # Code beside its source: they share most of their strings.
            archive_writer.Group(
                [blobs[path] for path in warm for blobs in (sources, compiled) if path in blobs],
                block_bytes=archive_writer.FAR_BLOCK_BYTES,
            ),
            archive_writer.Group(
                [sources[path] for path in rest if path in sources], block_bytes=archive_writer.FAR_BLOCK_BYTES
            ),
        ],
        progress=lambda part: progress((1 + 2 * part) / 3),
    )
    for top in tops:
        _write_stub(output, top)
    return Bundled(
        hot=len(hot),
        warm=len(warm),
        cold=len(modules) - len(hot) - len(warm),
        source_bytes=sum(len(texts[path]) for path in modules),
        bytecode_bytes=sum(map(len, codes.values())),
        archive_bytes=size,
    )


def _compile(
    sources: dict[str, bytes],
    *,
    positions: bool,
    progress: Callable[[float], None],
    rewritings: Mapping[str, plans.Rewriting] = MappingProxyType({}),
) -> dict[str, bytes]:
    jobs = []
    for path, source in sources.items():
        rewriting = rewritings.get(path)
        plain = None
        if rewriting is not None:
            stubs = {name: tuple(stub) for name, stub in rewriting.stubs.items()}
            plain = (tuple(rewriting.module), rewriting.names, rewriting.classes, stubs, rewriting.statements)
        jobs.append(bytecode.Source(f"{DEPLOYED}/{path}", source, plain))
    codes = bytecode.compile_all(jobs, positions=positions, progress=progress)
    return {path: code for path, code in zip(sources, codes, strict=True) if code is not None}


def _write_cached(output: Path, texts: dict[str, bytes]) -> None:
    """Bytecode for modules that stay files, where the import system itself looks for it."""
    for path, code in _compile(texts, positions=True, progress=lambda _part: None).items():
        cached = output / cache_from_source(path)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(bytecode.pyc(texts[path], code))


def _copy_run_time(output: Path) -> None:
    """The run-time package; as files, since it cannot find itself."""
    texts = {f"torch_layer/{path.name}": path.read_bytes() for path in sorted(paths.RUN_TIME.glob("*.py"))}
    for path, text in texts.items():
        (output / path).parent.mkdir(exist_ok=True)
        (output / path).write_bytes(text)
    _write_cached(output, texts)


def _write_stub(output: Path, top: str) -> None:
    """The package's `__init__` on disk: installs the finder, then becomes the real one.

    It is bytecode without a source, so that nothing takes the stub's text for the package's: linecache reads a file if there
    is one.
    """
    path = output / top / "__init__.pyc"
    path.parent.mkdir(exist_ok=True)
    code = marshal.dumps(compile(_STUB, f"{DEPLOYED}/{top}/__init__.py", "exec", dont_inherit=True, optimize=0))
    path.write_bytes(bytecode.pyc(_STUB.encode(), code))


def _table(paths: Iterable[str], modules: Iterable[str], tops: Iterable[str]) -> dict[str, dict[str, int | str]]:
    """`torch_layer.finder.Table`: what each folder of the packed packages holds for the import system."""
    table: dict[str, dict[str, int | str]] = {"": {}}
    for path in modules:
        folder, _, name = path.removesuffix(".py").rpartition("/")
        table.setdefault(folder, {})
        if name == "__init__":
            parent, _, tail = folder.rpartition("/")
            table.setdefault(parent, {})[tail] = PACKAGE
        else:
            table[folder].setdefault(name, MODULE)
    for folder in list(table):
        while folder:  # folders on the way without an __init__ are namespace packages
            parent, _, tail = folder.rpartition("/")
            table.setdefault(parent, {}).setdefault(tail, NAMESPACE)
            folder = parent
    for path in paths:
        folder, _, name = path.rpartition("/")
        suffix = next((suffix for suffix in EXTENSION_SUFFIXES if name.endswith(suffix)), None)
        # In the import system's order: a package, then an extension, then a module.
        if suffix and folder in table and folder.split("/")[0] in tops:
            tail = name.removesuffix(suffix)
            if table[folder].get(tail) != PACKAGE:
                table[folder][tail] = name
    return {folder: dict(sorted(names.items())) for folder, names in sorted(table.items())}
