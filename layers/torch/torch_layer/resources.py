"""`importlib.resources` for packages whose sources lie in the archive: a folder of the layer as stock's files would be.

Nothing imports this before a program asks for resources.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from pathlib import Path
from typing import IO, Any


class LayerResources(TraversableResources):
    """The resources of one package.

    Args:
        folder: the package's.
    """

    def __init__(self, folder: "LayerFolder") -> None:
        self._folder = folder

    def files(self) -> Traversable:
        """The package's folder."""
        return self._folder


class LayerFolder(Traversable):
    """A folder in which some sources are files and others lie in the archive. Folders outside of the table are plain paths.

    Args:
        root: the layer's root.
        relative: the folder below it.
        table: `torch_layer.finder.Table`, and the kinds of entries in it that are a package, and a folder of any kind.
        source: gives the text of a source below the root, or None.
    """

    def __init__(
        self,
        root: str,
        relative: str,
        table: Mapping[str, Mapping[str, int | str]],
        source: Callable[[str], bytes | None],
    ) -> None:
        self._root, self._relative, self._table, self._source = root, relative, table, source

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self._relative.rpartition("/")[2]

    def iterdir(self) -> Iterator[Traversable]:
        """All that stock's folder has, in order of names: files, sources in the archive, and folders."""
        here = Path(str(self))
        names = {each.name for each in here.iterdir()} if here.is_dir() else set()
        # The stub that stands for a packed package, and bytecode, are the layer's own.
        names -= {"__init__.pyc", "__pycache__"}
        names.update(name for name in self._names() if self._source(f"{self._relative}/{name}") is not None)
        names.update(name for name in self._table[self._relative] if f"{self._relative}/{name}" in self._table)
        for name in sorted(names):
            yield self._child(name)

    def _names(self) -> Iterator[str]:
        yield "__init__.py"
        for name, kind in self._table[self._relative].items():
            if not isinstance(kind, str):
                yield f"{name}.py"

    def _child(self, name: str) -> Any:
        relative = f"{self._relative}/{name}"
        if relative in self._table:
            return LayerFolder(self._root, relative, self._table, self._source)
        path = Path(self._root, relative)
        if not path.exists():
            text = self._source(relative)
            if text is not None:
                return PackedSource(str(path), text)
        return path

    def joinpath(self, *descendants: "str | os.PathLike[str]") -> Any:
        """What lies below the folder; a plain path if there is nothing of this name."""
        found: Any = self
        for part in (part for each in descendants for part in os.fspath(each).split("/") if part not in ("", ".")):
            found = found._child(part) if isinstance(found, LayerFolder) else found / part
        return found

    def __truediv__(self, child: "str | os.PathLike[str]") -> Any:
        return self.joinpath(child)

    def is_dir(self) -> bool:
        """It is a folder."""
        return True

    def is_file(self) -> bool:
        """It is no file."""
        return False

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        """A folder cannot be opened."""
        raise IsADirectoryError(str(self))

    def read_bytes(self) -> bytes:
        """A folder has none."""
        raise IsADirectoryError(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """A folder has none."""
        raise IsADirectoryError(str(self))

    def __fspath__(self) -> str:
        return f"{self._root}/{self._relative}"

    def __str__(self) -> str:
        return f"{self._root}/{self._relative}"

    def __repr__(self) -> str:
        return f"LayerFolder({str(self)!r})"


class PackedSource(Traversable):
    """A source that lies in the archive. `importlib.resources.as_file` makes a file of it.

    Args:
        path: where stock would have it.
        text: its bytes.
    """

    def __init__(self, path: str, text: bytes) -> None:
        self._path, self._text = path, text

    @property
    def name(self) -> str:
        """The file's own name."""
        return self._path.rpartition("/")[2]

    def iterdir(self) -> Iterator[Traversable]:
        """A file has nothing below it."""
        raise NotADirectoryError(self._path)

    def joinpath(self, *descendants: "str | os.PathLike[str]") -> Any:
        """A path below it, where nothing is."""
        return Path(self._path, *descendants)

    def __truediv__(self, child: "str | os.PathLike[str]") -> Any:
        return self.joinpath(child)

    def is_dir(self) -> bool:
        """It is no folder."""
        return False

    def is_file(self) -> bool:
        """It is a file."""
        return True

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        """The source for reading, as text or, with `rb`, as bytes."""
        if mode == "rb":
            return io.BytesIO(self._text)
        if mode in ("r", "rt"):
            return io.TextIOWrapper(io.BytesIO(self._text), *arguments, **options)
        raise OSError(f"{self._path} can be read only, and not be opened with mode {mode!r}")

    def read_bytes(self) -> bytes:
        """Its bytes."""
        return self._text

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Its text."""
        return self._text.decode(encoding or "utf-8", errors or "strict")

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"PackedSource({self._path!r})"
