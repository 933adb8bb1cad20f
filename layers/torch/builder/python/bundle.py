"""Step 5, the Python half: modules go into `modules.cold`, by tier. See DESIGN.md; `tiers` says which module goes where.

Hot bytecode is packed as well, since it packs to a quarter. Reading and unpacking one block of some eighty modules
costs no more than opening eighty files, and reads a quarter of the bytes from storage. Tracebacks through packed
modules show lines without the ^^^^ below them: the columns would be a quarter of the packed bytecode.
"""

import marshal
from collections.abc import Callable, Iterable, Mapping
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from builder import paths
from builder.memo import NOTHING_KEPT, Memo
from builder.python import archive_writer, bytecode, extras, kept_answers, source_changes
from builder.python.archive_writer import Blob, BlobGroup
from builder.python.deferred import planning as plans
from builder.python.deferred.libraries import Names, is_concerned, waiting_names
from builder.python.deferred.module_text import ModuleText, Origin
from builder.python.deferred.sources import SourceTree
from builder.python.import_table import import_table
from builder.python.records import write_records
from builder.python.tiers import PACKED, USED_ALONE, RecordedModules, Tiers, classify, module_name
from builder.stage import policy
from builder.stage.prune import link
from torch_layer import ARCHIVE_FILE

# Where the layer lies on Lambda. Bytecode carries the path; where the layer lies elsewhere, the loader corrects it at
# import.
DEPLOYED = "/opt/python"

# Modules of the run-time package for what packages that a user adds take from torch. Without such packages nothing imports them.
FOR_LIBRARIES = frozenset({"library_imports.py", "later_modules.py", "filled_objects.py", "waiting_calls.py"})
_STUB = "__import__('torch_layer.finder').finder.enter(globals())\n"


class Bundled(NamedTuple):
    """How many modules each tier has, and what they take."""

    hot: int
    warm: int
    cold: int
    source_bytes: int  # of all packed modules, as they were
    bytecode_bytes: int  # of the hot and the warm ones, before compression
    archive_bytes: int


def bundle(
    staged: Path,
    output: Path,
    recorded: RecordedModules,
    *,
    held: plans.HeldModules = plans.HeldModules(),  # noqa: B008 -- a tuple
    registrations: Mapping[str, object] = MappingProxyType({}),
    packed: frozenset[str] | None = None,
    memo: Memo = NOTHING_KEPT,
    progress: Callable[[float], None] = lambda _part: None,
) -> Bundled:
    """Make `output` from the staged tree: its Python modules by tier, and the run-time package beside them.

    Args:
        staged: The tree after strip; left as it is. Files that go over unchanged are hard links.
        output: A folder that does not exist.
        recorded: What the workload and the checks imported.
        held: Which modules of torch and of NumPy wait until they are touched.
        registrations: `Plan.registrations`. Without held modules it has to be empty.
        packed: Top-level packages whose modules may leave the file system. None: `extras.choose` says which.
        memo: Where bytecode and compressed blocks are kept for the next build.
        progress: Called with the part that is done, 0 to 1.
    """
    files = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    deferral = _Deferral(staged, held, registrations)
    recorded = recorded._replace(warm=recorded.warm | source_changes.MODULES)
    chosen = extras.choose(staged, files).packed if packed is None else packed
    tiers = classify(files, recorded, deferral.modules, chosen)

    _copy(staged, output, (path for path in files if path not in tiers.packed))
    texts = {path: (staged / path).read_bytes() for path in files if path.endswith(".py")}
    write_records(staged, output, files)
    _write_bytecode_files(output, {path: texts[path] for path in texts if path not in set(tiers.modules)}, memo)

    compiled = source_changes.applied({path: texts[path] for path in tiers.compiled})
    libraries = deferral.libraries(compiled)
    codes = _compile(
        compiled,
        positions=False,
        memo=memo,
        progress=lambda part: progress(part / 3),
        rewritings=deferral.rewritings(tiers),
        libraries=libraries,
    )
    _copy_run_time(output, memo, with_libraries=bool(libraries))
    archive_bytes = archive_writer.write(
        output / "torch_layer" / ARCHIVE_FILE,
        {
            "magic": MAGIC_NUMBER,
            "machine": policy.running_machine(),
            "table": import_table(files, tiers.modules, tiers.packages),
            "plans": deferral.run_time_plans | {"libraries": libraries},
        },
        [*_groups(tiers, texts, codes), _answers(kept_answers.ask(staged, tiers.packages, texts, memo))],
        memo=memo,
        progress=lambda part: progress((1 + 2 * part) / 3),
    )
    for package in tiers.packages:
        _write_stub(output, package)
    return Bundled(
        hot=len(tiers.hot) + len(tiers.extra),
        warm=len(tiers.warm),
        cold=len(tiers.modules)
        - len(tiers.compiled),  # of an extra module the bytecode is kept, wherever its source lies
        source_bytes=sum(len(texts[path]) for path in tiers.modules),
        bytecode_bytes=sum(map(len, codes.values())),
        archive_bytes=archive_bytes,
    )


class _Deferral:
    """The plans by which modules of torch and of NumPy wait, made from the staged tree's sources."""

    def __init__(self, staged: Path, held: plans.HeldModules, registrations: Mapping[str, object]) -> None:
        self._sources = SourceTree(staged)
        self._running = frozenset(held.running)
        self._torch = plans.make(self._sources, held)._replace(registrations=dict(registrations))
        self._numpy = plans.of_numpy(SourceTree(staged, ["numpy"]), held.numpy)

    @property
    def modules(self) -> frozenset[str]:
        """The names of all modules that wait."""
        return frozenset([*self._torch.held, *self._numpy.held])

    @property
    def run_time_plans(self) -> dict[str, dict[str, object]]:
        """NumPy's plan and torch's, by the package, in plain containers that the archive's index can hold."""
        return {plan.root: plan._asdict() for plan in (self._numpy, self._torch)}

    def libraries(self, texts: Mapping[str, bytes]) -> Names:
        """What waits in modules of packages that a user has added, by their sources; nothing where no module of torch does."""
        if not self._torch.held:
            return {}
        modules = [
            ModuleText(module_name(path), path.endswith("/__init__.py"), text)
            for path, text in texts.items()
            # The root of a package is entered by its stub.
            if path.split("/")[0] not in PACKED and path.removesuffix("/__init__.py").count("/")
        ]
        return waiting_names({module.name: module for module in filter(is_concerned, modules)}, self._may_wait)

    def _may_wait(self, origin: Origin) -> bool:
        """Whether it is an attribute of a module of torch that does not run with `import torch`."""
        source, attribute = origin
        return (
            source in self._sources
            and source not in self._running
            and not self._sources.is_attribute(f"{source}.{attribute}")
        )

    def rewritings(self, tiers: Tiers) -> dict[str, plans.Rewriting]:
        """How sources are changed before they are compiled, by path."""
        by_name = {module_name(path): path for path in tiers.modules}
        return {by_name[name]: plans.rewriting(self._sources, self._torch, name) for name in self._torch.deferred_names}


def _copy(staged: Path, output: Path, files: Iterable[str]) -> None:
    for path in files:
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        link(staged / path, output / path)


def _groups(tiers: Tiers, texts: Mapping[str, bytes], codes: Mapping[str, bytes]) -> list[BlobGroup]:
    """What the archive holds, in the order in which a program will want it."""
    sources = {path: Blob(path, False, texts[path]) for path in tiers.modules if path in tiers.packed}
    compiled = {path: Blob(path, True, code) for path, code in codes.items()}

    def code_first(paths: Iterable[str]) -> BlobGroup:
        listed = list(paths)
        read = set(tiers.read_as_text)
        return BlobGroup(
            [compiled[path] for path in listed if path in compiled],
            [sources[path] for path in listed if path in sources and path not in read],
        )

    def far(blobs: Iterable[Blob]) -> BlobGroup:
        return BlobGroup(list(blobs), block_bytes=archive_writer.FAR_BLOCK_BYTES)

    alone = [path for path in tiers.warm if path.split("/")[0] in USED_ALONE]
    # A source that this Python cannot compile has no code to lie beside.
    cold = {*tiers.cold, *(path for path in tiers.compiled if path not in codes)}
    # Those of extra packages have blocks of their own, so that the others are the same with and without them.
    own = {path for path in cold if path.split("/")[0] in PACKED}
    return [
        code_first(path for path in tiers.hot if path not in tiers.deferred),
        code_first(path for path in tiers.hot if path in tiers.deferred),
        BlobGroup([sources[path] for path in tiers.read_as_text if path in sources]),
        code_first(alone),
        code_first(path for path in tiers.warm if path not in alone),
        far(sources[path] for path in sorted(own) if path in sources),
        BlobGroup(
            [compiled[path] for path in tiers.extra if path in compiled],
            [sources[path] for path in tiers.extra if path in sources and path not in cold],
        ),
        far(sources[path] for path in sorted(cold - own) if path in sources),
    ]


def _answers(answers: Mapping[str, bytes]) -> BlobGroup:
    """The answers that packages find out from their own sources. They are read as bytecode is."""
    return BlobGroup([Blob(key, True, answer) for key, answer in answers.items()])


def _compile(
    sources: dict[str, bytes],
    *,
    positions: bool,
    memo: Memo,
    progress: Callable[[float], None],
    rewritings: Mapping[str, plans.Rewriting] = MappingProxyType({}),
    libraries: Names | None = None,
) -> dict[str, bytes]:
    """Marshalled code by path; without the sources that this Python cannot compile."""
    waiting = libraries or {}
    jobs = []
    for path, source in sources.items():
        rewriting = rewritings.get(path)
        plain = None
        if rewriting is not None:
            stubs = {name: tuple(stub) for name, stub in rewriting.stubs.items()}
            plain = (tuple(rewriting.module), rewriting.names, rewriting.classes, stubs, rewriting.statements)
        name = module_name(path)
        library = (name, path.endswith("/__init__.py"), waiting[name]) if name in waiting else None
        jobs.append(bytecode.CompileJob(f"{DEPLOYED}/{path}", source, plain, library))
    codes = bytecode.compile_all(jobs, positions=positions, memo=memo, progress=progress)
    return {path: code for path, code in zip(sources, codes, strict=True) if code is not None}


def _write_bytecode_files(output: Path, texts: dict[str, bytes], memo: Memo) -> None:
    """Bytecode for modules that stay files, where the import system itself looks for it."""
    for path, code in _compile(texts, positions=True, memo=memo, progress=lambda _part: None).items():
        cached = output / cache_from_source(path)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(bytecode.pyc(texts[path], code))


def _copy_run_time(output: Path, memo: Memo, *, with_libraries: bool) -> None:
    """The run-time package; as files, since it cannot find itself."""
    names = {path.name for path in paths.RUN_TIME.glob("*.py")}
    if not with_libraries:
        names -= FOR_LIBRARIES
    texts = {f"torch_layer/{name}": (paths.RUN_TIME / name).read_bytes() for name in sorted(names)}
    for path, text in texts.items():
        (output / path).parent.mkdir(exist_ok=True)
        (output / path).write_bytes(text)
    _write_bytecode_files(output, texts, memo)


def _write_stub(output: Path, package: str) -> None:
    """The package's `__init__` on disk: installs the finder, then becomes the real one.

    It is bytecode without a source, so that nothing takes the stub's text for the package's: linecache reads a file if
    there is one.
    """
    path = output / package / "__init__.pyc"
    path.parent.mkdir(exist_ok=True)
    code = marshal.dumps(compile(_STUB, f"{DEPLOYED}/{package}/__init__.py", "exec", dont_inherit=True, optimize=0))
    path.write_bytes(bytecode.pyc(_STUB.encode(), code))
