"""Runs Python processes that can import one tree and the builder, and no other package of this machine.

The function sees the layer in the same way: `/opt/python` is a plain entry of sys.path, no `site` module runs, and no
variable of the shell helps. The builder lies in a folder that holds only a link to it. So a file that the tree lacks
cannot be found beside the builder by chance.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder import paths

# A process needs these to run at all. Any other variable could make one machine's result differ from another's. Python
# in the runtime's own images finds its libpython by LD_LIBRARY_PATH.
_KEPT_VARIABLES = ("PATH", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


@contextmanager
def environment(
    tree: Path, extra: Mapping[str, str] | None = None, beside: Sequence[Path] = ()
) -> Iterator[dict[str, str]]:
    """The environment in which `tree` (a folder of packages), the builder and the packages `beside` it can be imported."""
    with tempfile.TemporaryDirectory(prefix="layer-path-") as folder:
        for package in (paths.BUILDER, *beside):
            Path(folder, package.name).symlink_to(package, target_is_directory=True)
        variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        variables["PYTHONPATH"] = f"{tree.resolve()}{os.pathsep}{folder}"
        variables["PYTHONDONTWRITEBYTECODE"] = "1"  # testing a tree must not change it
        yield variables | dict(extra or {})


def run(
    tree: Path,
    *arguments: str,
    extra: Mapping[str, str] | None = None,
    beside: Sequence[Path] = (),
    timeout: float | None = 600,
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with `arguments` (`-m`, `-c`, a file ...) where only `tree` and the builder can be imported.

    Args:
        tree: Folder with the packages (`build/layer/python`, a staging tree, a site-packages folder).
        arguments: What follows `python` on a command line.
        extra: Further environment variables (a CPU capability, a recording file).
        beside: Folders of further packages. Each is linked by its name, so nothing else in its parent folder can be
            imported.
        timeout: Seconds; `subprocess.TimeoutExpired` is raised after that.
    """
    with environment(tree, extra, beside) as variables:
        # -S: no site-packages, -P: not the current folder, -s: not the user's packages.
        command = [sys.executable, "-S", "-P", "-s", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
