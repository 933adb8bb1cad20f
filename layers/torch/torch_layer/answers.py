"""What functions of packed packages find out from their own sources, which the builder has asked them before.

The bytecode of such a function has `cached` as its decorator (`builder/python/source_changes.py`).
"""

import marshal
import os
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any


def key(name: str, root: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The name of an answer in the archive.

    Args:
        name: of the function, with its module.
        root: of the layer; paths below it are written without it.
        arguments: a path first.
        options: by keyword.
    """
    path = os.fspath(arguments[0])
    return f"{name}({path.removeprefix(root + '/')!r}, {arguments[1:]!r}, {sorted(options.items())!r})"


def cached(function: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `functools.lru_cache`: the kept answer, or the function's own for arguments that have none."""
    from torch_layer import finder

    name = f"{function.__module__}.{function.__qualname__}"

    @lru_cache
    @wraps(function)
    def answer(*arguments: Any, **options: Any) -> Any:
        kept = finder.answer(key(name, finder.ROOT, arguments, options)) if arguments else None
        return function(*arguments, **options) if kept is None else marshal.loads(kept)  # noqa: S302 -- the builder's own bytes: the checksum fits

    return answer
