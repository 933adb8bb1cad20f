"""Runs a program, and notes which modules of a tree it and its forked children run, and which sources they read as text.

    python -m builder.profile.recorder OUTPUT -m module [arguments]
    python -m builder.profile.recorder OUTPUT file.py [arguments]

The tree is the first folder of `PYTHONPATH`. OUTPUT gets one line for each of them, `module PATH` or `source PATH`,
relative to the tree.
"""

import os
import runpy
import sys
from types import CodeType
from typing import Any

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class ImportRecorder:
    """An audit hook (PEP 578) that writes each path once, at once: children end by `_exit`, and a crash must lose nothing."""

    def __init__(self, output: str, root: str) -> None:
        self._file = os.open(output, FLAGS, 0o644)
        self._root = root + os.sep
        self._seen: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what an event of the interpreter says about the tree."""
        if event == "exec":
            code = arguments[0]
            if isinstance(code, CodeType) and code.co_name == "<module>":
                self._note("module", code.co_filename)
        elif event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".py"):
            # The import system reads sources to compile them. Any other reader needs the text.
            caller = sys._getframe(1).f_code.co_filename
            if not caller.startswith("<frozen importlib"):
                self._note("source", arguments[0])

    def _note(self, kind: str, path: str) -> None:
        if path.startswith(self._root):
            line = f"{kind} {path[len(self._root) :]}\n"
            if line not in self._seen:
                self._seen.add(line)
                os.write(self._file, line.encode())


def main(argv: list[str]) -> None:
    """Run the program as `python` does. Its exceptions and its exit status are passed on."""
    output, *command = argv
    sys.addaudithook(ImportRecorder(output, os.environ["PYTHONPATH"].split(os.pathsep)[0]))
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
