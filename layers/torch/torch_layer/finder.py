"""Finds the layer's Python modules. Their bytecode and sources are in `modules.cold`; all others are on disk as usual.

The layer's top-level packages are stubs that call `enter`, so the import of any of them installs the finder. There is no other
way: `/opt/python` is a plain `sys.path` entry, and Python reads neither `.pth` files nor a `sitecustomize` there. The finder is
a path hook and not a meta path finder, so that `pkgutil`, `runpy` and `importlib.util` see a folder of the layer as any folder.

`inspect`, `linecache` (tracebacks), `torch.jit.script` and `pkgutil.get_data` get sources from the loader (PEP 302).

All of this runs before torch at every cold start. So it looks for no file, and imports only what torch imports.
"""

import _imp
import marshal
import os
import sys
from collections.abc import Iterator
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType
from typing import Any

from torch_layer import ARCHIVE_FILE, PAGER_LIBRARY, pager, start
from torch_layer.archive import ModuleArchive
from torch_layer.completion import ImportStats, is_eager
from torch_layer.imports import Imports
from torch_layer.placeholders import WrappedLoader
from torch_layer.plan import Plan
from torch_layer.registrations import LateRegistrations

# What the table says of a name; a string instead is the file name of an extension module.
MODULE, PACKAGE, NAMESPACE = range(3)

# Folder below the root ("" is the root itself) -> name -> one of the above. The builder's python/import_table.py writes it.
Table = dict[str, dict[str, int | str]]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 -- pathlib is not imported at start-up
_SECOND = ".__init__"
_CACHED = f".{sys.implementation.cache_tag}.pyc"
_LOADERS: list[tuple[type[Any], list[str]]] = [
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
]


class LayerLoader(SourceFileLoader):
    """Loads a module from the archive; its source may be a file all the same."""

    def get_code(self, fullname: str) -> CodeType:
        """The module's code object, compiled from its source where the layer keeps no bytecode of it."""
        path = str(self.path)
        # A package's file as a second module: bytecode may be rewritten, for the first one.
        data = None if fullname.endswith(_SECOND) else _ARCHIVE.bytecode(path[len(ROOT) + 1 :])
        if data is None:
            compiled: CodeType = self.source_to_code(self.get_data(path), path)
            return compiled
        code: CodeType = marshal.loads(data)  # noqa: S302 -- the layer's own, and its checksum fits
        # Bytecode names the file that it is expected to lie in: /opt/python/... Where the layer lies elsewhere this is put
        # right as the import system does it for its own bytecode (importlib._bootstrap_external._compile_bytecode).
        if code.co_filename != path:
            _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]
        return code

    def get_data(self, path: str) -> bytes:
        """The bytes of a file, or of a source in the archive. Raises `OSError` if `path` is neither."""
        try:
            return super().get_data(path)
        except FileNotFoundError:
            source = _ARCHIVE.source(path[len(ROOT) + 1 :])
            if source is None:
                raise
            return source

    def get_resource_reader(self, name: str | None = None) -> Any:
        """What `importlib.resources` asks: the package's folder, with sources that are no files. None if it is no package."""
        from torch_layer.resources import LayerFolder, LayerResources

        if not self.is_package(name or self.name):
            return None
        relative = os.path.dirname(str(self.path))[len(ROOT) + 1 :]  # noqa: PTH120
        return LayerResources(LayerFolder(ROOT, relative, _TABLE, _ARCHIVE.source))


class _LibraryLoader(ExtensionFileLoader):
    """Loads torch's extension module, and with it the libraries."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, without the memory that only loading it took."""
        module = super().create_module(spec)
        _LATE.libraries_are_loaded()
        pager.trim()
        return module


class FolderFinder:
    """The path entry finder of one folder of the layer (PEP 302). A folder need not exist on disk."""

    def __init__(self, relative: str) -> None:
        self.path = f"{ROOT}/{relative}" if relative else ROOT
        self._names = _TABLE[relative]
        parent, _, name = relative.rpartition("/")
        self._is_package = bool(name) and _TABLE[parent][name] == PACKAGE
        self._files = FileFinder(self.path, *_LOADERS)

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of the module, or None if it is not here."""
        tail = fullname.rpartition(".")[2]
        kind = self._names.get(tail)
        if kind is None and tail == "__init__" and self._is_package:
            kind = MODULE  # C code of torch imports `torch.onnx.__init__`, and any package can be imported so
        if kind is None:
            return self._files.find_spec(fullname, target)
        folder = f"{self.path}/{tail}"
        spec: ModuleSpec
        if isinstance(kind, str):
            path = f"{self.path}/{kind}"
            loads_libraries = fullname == "torch._C"
            loader = _LibraryLoader(fullname, path) if loads_libraries else ExtensionFileLoader(fullname, path)
            spec = _prepared(ModuleSpec(fullname, loader, origin=path))
        elif kind == NAMESPACE:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [folder]
            return spec
        else:
            path = f"{folder}/__init__.py" if kind == PACKAGE else f"{folder}.py"
            spec = ModuleSpec(fullname, LayerLoader(fullname, path), origin=path)
            # What Python's own finder says, which takes longer to find out.
            inside, stem = (folder, "__init__") if kind == PACKAGE else (self.path, tail)
            spec.cached = f"{inside}/__pycache__/{stem}{_CACHED}"
            if kind == PACKAGE:
                spec.submodule_search_locations = [folder]
            spec = _prepared(spec)
        spec.has_location = True
        return spec

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Prefixed name, and whether it is a package, of every module here, in order of names (for `pkgutil`)."""
        import pkgutil

        found = dict(pkgutil.iter_importer_modules(self._files, ""))  # type: ignore[attr-defined]  # public, but typeshed lacks it
        found.update((name, kind == PACKAGE) for name, kind in self._names.items() if kind != NAMESPACE)
        for name in sorted(found):
            yield prefix + name, found[name]

    def invalidate_caches(self) -> None:
        """Forget what the folder holds on disk; the table never changes."""
        self._files.invalidate_caches()


def enter(namespace: dict[str, Any]) -> None:
    """Run the real module in the place of the stub whose globals are given."""
    own = namespace["__spec__"]
    spec = FolderFinder("").find_spec(own.name)
    assert spec is not None  # the builder writes no stub without its module
    loader = spec.loader.real if isinstance(spec.loader, WrappedLoader) else spec.loader
    assert isinstance(loader, LayerLoader)
    own.loader, own.origin, own.cached = loader, spec.origin, None
    own.submodule_search_locations = spec.submodule_search_locations
    namespace.update(__loader__=loader, __file__=spec.origin, __path__=spec.submodule_search_locations)
    namespace.pop("__cached__", None)
    # As the import system does with every module.
    _imports_of(own.name).prepare(own, is_entered=True).loader.exec_module(sys.modules[own.name])
    if own.name == "torch":
        _LATE.watch()
    _ARCHIVE.forget()


def answer(key: str) -> memoryview | None:
    """A marshalled answer that the builder has kept (`torch_layer.answers`); None if there is none."""
    return _ARCHIVE.bytecode(key)


def _imports_of(name: str) -> Imports:
    return _NUMPY if name.partition(".")[0] == "numpy" else _TORCH


def _prepared(spec: Any) -> Any:
    prepared = _imports_of(spec.name).prepare(spec)
    return prepared if _LIBRARIES is None else _LIBRARIES.prepare(prepared)


def imports(package: str = "torch") -> ImportStats:
    """How many modules of `torch` or of `numpy` wait until something touches them, and what has completed their import."""
    return _imports_of(package).completion.stats()


def separable_modules() -> list[str]:
    """The held modules of torch that run by themselves when something touches them, in the order of stock torch."""
    return [name for name in _ARCHIVE.head["plans"]["torch"]["separable"] if _TORCH.completion.stats().held]


def complete_imports() -> None:
    """Run all modules that wait now, for example before a snapshot of the process."""
    _TORCH.completion.complete()
    if _LIBRARIES is not None:
        _LIBRARIES.complete()


def _hook(path: str) -> FolderFinder:
    if path == ROOT or path.startswith(ROOT + "/"):
        relative = path[len(ROOT) + 1 :].rstrip("/")
        if relative in _TABLE:
            return FolderFinder(relative)
    raise ImportError(path)


def _check_target(magic: bytes, machine: str) -> None:
    """Refuse another Python, and other processors: their loader would only call the libraries' headers invalid."""
    here = os.uname().machine
    if machine != here:
        raise ImportError(
            f"the torch layer in {ROOT} was built for {machine} processors, and this one is {here}.\n"
            "Next: build and deploy the layer with the function's architecture (the parameter Architecture of the stack)",
        )
    if magic != MAGIC_NUMBER:
        raise ImportError(
            f"the torch layer in {ROOT} was built for another Python than this {sys.version.split()[0]}.\n"
            "Next: build the layer with the Python of the function's runtime (CompatibleRuntimes in template.yaml)",
        )


start.limit_threads()
_FOLDER = f"{ROOT}/torch_layer/"
_ARCHIVE = ModuleArchive(_FOLDER + ARCHIVE_FILE, _FOLDER + PAGER_LIBRARY)
_TABLE: Table = _ARCHIVE.head["table"]
_check_target(_ARCHIVE.head["magic"], _ARCHIVE.head["machine"])
_NUMPY = Imports(Plan(**_ARCHIVE.head["plans"]["numpy"]), eager=is_eager())
_TORCH = Imports(Plan(**_ARCHIVE.head["plans"]["torch"]), eager=is_eager(), before=_NUMPY)
_TORCH.completion.undo.append(_ARCHIVE.forget)
_LATE = LateRegistrations(_TORCH.completion, _ARCHIVE.head["plans"]["torch"]["registrations"])
_LIBRARIES: Any = None
if _ARCHIVE.head["plans"].get("libraries"):
    from torch_layer.library_imports import LibraryImports

    _LIBRARIES = LibraryImports(_ARCHIVE.head["plans"]["libraries"], _TORCH, eager=is_eager())
sys.path_hooks.insert(0, _hook)
for _entry in list(sys.path_importer_cache):
    # Only the root can have been looked at before: whatever lies below it is reached through this module.
    if os.path.abspath(_entry) == ROOT:  # noqa: PTH100
        sys.path_importer_cache[_entry] = FolderFinder("")
