"""Results of slow steps, kept under a hash of all that they were made from, so that a second build need not make them again.

A result is bytes, and each function that makes one is pure: the same inputs give the same bytes. So a build with kept results is
the build without them, bit for bit. A damaged result is made again.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_DIGEST_BYTES = 32


class Memo:
    """A folder of results.

    Args:
        folder: Where they are; it is made when the first is kept. None keeps nothing.
        others: Folders of other builds, whose results are taken as well. They are only read, so another build may run.

    Example:
        >>> memo.result([b"zstd 19", content], lambda: compress(content))
    """

    def __init__(self, folder: Path | None, others: Iterable[Path] = ()) -> None:
        self._folder, self._others = folder, tuple(others)
        self._used: set[str] = set()

    def result(self, made_from: Iterable[bytes], make: Callable[[], bytes]) -> bytes:
        """The kept result, or a new one, which is kept. Several threads may ask at once.

        Args:
            made_from: Everything that the result depends on, in one order: the content, the parameters, the version of the tool.
            make: Makes the result.
        """
        if self._folder is None:
            return make()
        key = hashlib.sha256()
        for part in made_from:
            key.update(len(part).to_bytes(8, "little"))
            key.update(part)
        name = key.hexdigest()
        self._used.add(name)
        kept = _read(self._folder / name)
        if kept is None:
            found = (_read(folder / name) for folder in self._others)
            kept = next((each for each in found if each is not None), None)
            kept = make() if kept is None else kept
            self._write(name, kept)
        return kept

    def _write(self, name: str, result: bytes) -> None:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{name}.{os.getpid()}.{threading.get_ident()}.partial"
        try:
            partial.write_bytes(hashlib.sha256(result).digest() + result)
            partial.replace(self._folder / name)
        except OSError:
            # A full disk, for example: the build goes on without.
            partial.unlink(missing_ok=True)

    def forget_others(self) -> None:
        """Remove what was not asked for since this object was made: results of earlier inputs."""
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in self._used:
                    path.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    """A kept result; None if there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, result = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return result if hashlib.sha256(result).digest() == digest else None


NOTHING_KEPT = Memo(None)
