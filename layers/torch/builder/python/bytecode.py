"""Compiles modules to the same bytes in every build.

`marshal` writes an object once or by reference depending on who else in the process holds it. So modules are compiled in
fresh processes, in fixed chunks, with a fixed hash seed, and the bytes depend on the sources and on the interpreter alone.
This file is what those processes run: a marshalled list of sources on standard input, of bytecode on standard output.
"""

import importlib.util
import marshal
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from builder import paths

_CHUNK = 150  # modules a process; enough that starting it does not count
# The flags of PEP 552: hash-based, and not to be checked against a source. SAM gives every file of a layer the date
# 1980-01-01, so bytecode that is checked by date never fits on Lambda, and Python compiles at every cold start.
_UNCHECKED_HASH = b"\x01\0\0\0"


def pyc(source: bytes, code: bytes) -> bytes:
    """A bytecode file (PEP 552, unchecked hash) for marshalled code."""
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source) + code


class Source(NamedTuple):
    """A module to compile.

    Attributes:
        file: The file name that the code shall carry; tracebacks show it.
        text: Its source.
        rewriting: The arguments of `builder.python.deferred.defer.rewrite`, in plain containers; None leaves it as it is.
    """

    file: str
    text: bytes
    rewriting: tuple[object, ...] | None = None


def compile_all(
    modules: Sequence[Source], *, positions: bool, progress: Callable[[float], None] = lambda _part: None
) -> list[bytes | None]:
    """Marshalled code for each module, in order; None where this Python cannot compile the source.

    Args:
        modules: What to compile.
        positions: Keep columns beside line numbers (the ^^^^ of a traceback); they are a quarter of compressed bytecode.
        progress: Called with the part that is done, 0 to 1.
    """
    chunks = [modules[at : at + _CHUNK] for at in range(0, len(modules), _CHUNK)]
    results: list[bytes | None] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, part in enumerate(pool.map(lambda chunk: _compile(chunk, positions=positions), chunks), 1):
            results.extend(part)
            progress(done / len(chunks))
    return results


def _compile(chunk: Sequence[Source], *, positions: bool) -> list[bytes | None]:
    # Not -I, which would ignore PYTHONHASHSEED; nothing else of the caller's environment comes along.
    variables = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(paths.LAYER)} | (
        {} if positions else {"PYTHONNODEBUGRANGES": "1"}
    )
    command = [sys.executable, "-S", "-P", "-s", "-m", "builder.python.bytecode"]
    if "LD_LIBRARY_PATH" in os.environ:  # the runtime's own images find libpython by it
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    done = subprocess.run(
        command,
        input=marshal.dumps([tuple(source) for source in chunk]),
        env=variables,
        stdout=subprocess.PIPE,
        check=True,
    )
    results: list[bytes | None] = marshal.loads(done.stdout)  # noqa: S302 -- from our own child
    return results


def _child() -> None:
    warnings.simplefilter("ignore")  # other projects' SyntaxWarnings
    results: list[bytes | None] = []
    for file, text, rewriting in marshal.load(sys.stdin.buffer):  # noqa: S302 -- from our own parent
        try:
            source = text if rewriting is None else _rewritten(*rewriting)
            results.append(marshal.dumps(compile(source, file, "exec", dont_inherit=True, optimize=0)))
        except (SyntaxError, ValueError):
            # Sources for a later Python (torch has some, behind version checks) fail when they are imported, as in stock.
            results.append(None)
    sys.stdout.buffer.write(marshal.dumps(results))


def _rewritten(module: Any, names: Any, classes: Any, stubs: Any, statements: Any) -> Any:
    from builder.python.deferred import defer
    from builder.python.deferred.module_text import ModuleText

    given = {name: defer.Stub(*stub) for name, stub in stubs.items()}
    return defer.rewrite(ModuleText(*module), names, classes, given, statements)


if __name__ == "__main__":
    _child()
