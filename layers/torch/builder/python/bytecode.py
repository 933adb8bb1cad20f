"""Compiles modules to the same bytes in every build.

`marshal` writes an object as a whole or as a reference. Which of the two depends on what else in the process refers to
the object. So modules are compiled in new processes, in fixed chunks, with a fixed hash seed. Then the bytes depend
only on the sources and on the interpreter. Those processes run this file: it reads a marshalled list of sources from
standard input, and writes one of bytecode to standard output.
"""

import importlib.util
import marshal
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from builder import paths
from builder.memo import NOTHING_KEPT, Memo

_CHUNK = 150  # modules for each process; with so many, starting the process hardly counts
# The flags of PEP 552: hash-based, and never checked against a source. SAM gives every file of a layer the date
# 1980-01-01. So bytecode that is checked by date never matches on Lambda, and Python would compile at every cold start.
_UNCHECKED_HASH = b"\x01\0\0\0"


def pyc(source: bytes, code: bytes) -> bytes:
    """A bytecode file (PEP 552, unchecked hash) for marshalled code."""
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source) + code


class CompileJob(NamedTuple):
    """A module to compile.

    Attributes:
        file: The file name in the code; tracebacks show it.
        text: Its source.
        rewriting: The arguments of `builder.python.deferred.defer.rewrite`, in plain containers; None compiles the text
            as it is.
        library: What waits in a module of an added package: its name, whether it is a package, and the names, as
            `builder.python.deferred.libraries.rewrite` takes them; None compiles the text as it is.
    """

    file: str
    text: bytes
    rewriting: tuple[object, ...] | None = None
    library: tuple[str, bool, object] | None = None


def compile_all(
    modules: Sequence[CompileJob],
    *,
    positions: bool,
    memo: Memo = NOTHING_KEPT,
    progress: Callable[[float], None] = lambda _part: None,
) -> list[bytes | None]:
    """Marshalled code for each module, in order; None where this Python cannot compile the source.

    Args:
        modules: What to compile.
        positions: Keep columns beside line numbers (the ^^^^ of a traceback). They are a quarter of compressed
            bytecode.
        memo: Where bytecode is kept for the next build.
        progress: Called with the part that is done, 0 to 1.
    """
    chunks = [modules[at : at + _CHUNK] for at in range(0, len(modules), _CHUNK)]
    results: list[bytes | None] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, part in enumerate(
            pool.map(lambda chunk: _compiled(chunk, positions=positions, memo=memo), chunks), 1
        ):
            results.extend(part)
            progress(done / len(chunks))
    return results


def _compiled(chunk: Sequence[CompileJob], *, positions: bool, memo: Memo) -> list[bytes | None]:
    jobs = marshal.dumps([tuple(source) for source in chunk], 2)  # without references: equal jobs give equal bytes
    parameters = f"bytecode {sys.version} {positions}".encode()
    results: list[bytes | None] = marshal.loads(  # noqa: S302 -- from our own child
        memo.result([parameters, _code_of_rewriting(), jobs], lambda: _compile(jobs, positions=positions))
    )
    return results


@cache
def _code_of_rewriting() -> bytes:
    """The sources by which a child rewrites and compiles."""
    files = [Path(__file__), *sorted((Path(__file__).parent / "deferred").glob("*.py"))]
    return b"".join(file.read_bytes() for file in files)


def _compile(jobs: bytes, *, positions: bool) -> bytes:
    # Not -I, which would ignore PYTHONHASHSEED. No other variable of the caller's environment is passed on.
    variables = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(paths.LAYER)} | (
        {} if positions else {"PYTHONNODEBUGRANGES": "1"}
    )
    command = [sys.executable, "-S", "-P", "-s", "-m", "builder.python.bytecode"]
    if "LD_LIBRARY_PATH" in os.environ:  # Python in the runtime's own images finds libpython by it
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.run(command, input=jobs, env=variables, stdout=subprocess.PIPE, check=True).stdout


def _child() -> None:
    warnings.simplefilter("ignore")  # other projects' SyntaxWarnings
    results: list[bytes | None] = []
    for file, text, rewriting, library in marshal.load(sys.stdin.buffer):  # noqa: S302 -- from our own parent
        try:
            source = text
            if rewriting is not None:
                source = _rewritten(*rewriting)
            elif library is not None:
                source = _rewritten_library(text, *library)
            results.append(marshal.dumps(compile(source, file, "exec", dont_inherit=True, optimize=0)))
        except (SyntaxError, ValueError):
            # torch has sources for later versions of Python, behind version checks. They fail when they are imported,
            # as in stock torch.
            results.append(None)
    sys.stdout.buffer.write(marshal.dumps(results))


def _rewritten(module: Any, names: Any, classes: Any, stubs: Any, statements: Any) -> Any:
    from builder.python.deferred import defer
    from builder.python.deferred.module_text import ModuleText

    given = {name: defer.Stub(*stub) for name, stub in stubs.items()}
    return defer.rewrite(ModuleText(*module), names, classes, given, statements)


def _rewritten_library(text: bytes, name: str, is_package: bool, names: Any) -> Any:
    from builder.python.deferred import libraries
    from builder.python.deferred.module_text import ModuleText

    return libraries.rewrite(ModuleText(name, is_package, text), names)


if __name__ == "__main__":
    _child()
