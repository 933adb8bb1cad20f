"""Step 3: take debugging symbols and static symbol tables out of libraries, by rule, and load each result.

strip has corrupted libraries that patchelf rewrote before: https://github.com/pypa/manylinux/issues/119,
https://github.com/NixOS/patchelf/issues/10. The rules leave those alone that are known by their path. Others are known by the
result, which no loader takes: torchvision's image.so is such a file. Every library has to load afterwards.
"""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from builder import clean
from builder.errors import BuildError, RequirementsError
from builder.stage.needs import can_be_mapped, elf_files


class StripRule(NamedTuple):
    """What happens to libraries whose path matches; the first rule that matches decides."""

    pattern: str
    strip: bool
    reason: str


RULES = (
    StripRule(
        r"[^/]+\.libs/", False, "auditwheel rewrote these with patchelf, and strip is known to corrupt such files"
    ),
    StripRule(r"torch/lib/libgomp", False, "a vendored library that was renamed and rewritten with patchelf"),
    StripRule(r".*", True, "linked once and never rewritten"),
)


class Stripped(NamedTuple):
    """What became of the libraries."""

    files: int
    saved_bytes: int
    kept: int  # left alone, by rule or since the result was damaged
    loaded: int  # opened by the loader afterwards


def rule_for(path: str) -> StripRule:
    """The rule for the ELF file at `path`, relative to the tree."""
    return next(rule for rule in RULES if re.match(rule.pattern, path))


def require_tool(machine: str = "") -> str:
    """The `strip` command.

    Args:
        machine: The architecture of the libraries, as `uname -m` has it; empty for this machine's.

    Raises:
        BuildError: There is none.
    """
    if machine in ("", platform.machine()):
        tool, package = shutil.which("strip"), "binutils"
    else:
        tool = shutil.which(f"{machine}-linux-gnu-strip")
        package = f"binutils-{machine.replace('_', '-')}-linux-gnu"
    if tool is None:
        raise BuildError(
            f"there is no strip for {machine or platform.machine()} on this machine",
            f"install binutils (apt-get install {package}, dnf install {package})",
        )
    return tool


def strip(tree: Path) -> Stripped:
    """Strip the ELF files of `tree`; each is replaced by a new file. Every shared library is loaded before and afterwards.

    Raises:
        BuildError: There is no `strip`, it fails, or a result cannot be loaded; the message names the file.
        RequirementsError: A library cannot be loaded as its wheel brought it.
    """
    require_tool()
    before = try_loading(tree)
    if before.failed:
        raise RequirementsError(
            f"{before.failed} cannot be loaded: {before.reason}",
            "choose another version of the package that it belongs to, or leave the package out: Lambda has only the layer's "
            "libraries and a few of the system",
        )
    taken = take_out(tree)
    after = try_loading(tree)
    if after.failed:
        raise BuildError(f"{after.failed} cannot be loaded after strip: {after.reason}", _LEAVE_ALONE)
    return taken._replace(loaded=after.loaded)


def take_out(tree: Path, machine: str = "") -> Stripped:
    """Take the symbol tables out of the ELF files of `tree`, by rule; each is replaced by a new file. None is loaded.

    Args:
        tree: A folder of packages.
        machine: Their architecture, as `uname -m` has it; empty for this machine's.

    Raises:
        BuildError: There is no `strip` for it, or it fails.
    """
    tool = require_tool(machine)
    files = saved = kept = 0
    for path in elf_files(tree):
        name = path.relative_to(tree).as_posix()
        if not rule_for(name).strip:
            kept += 1
            continue
        stat, output = path.stat(), path.with_name(path.name + ".stripped")
        done = subprocess.run([tool, "-o", str(output), str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            output.unlink(missing_ok=True)
            raise BuildError(f"strip cannot rewrite {name}: {done.stderr.strip()}", _LEAVE_ALONE)
        if not can_be_mapped(output):
            output.unlink()
            kept += 1
        elif output.stat().st_size < stat.st_size:
            output.chmod(stat.st_mode & 0o777)
            output.replace(path)
            files, saved = files + 1, saved + stat.st_size - path.stat().st_size
        else:
            output.unlink()
    return Stripped(files, saved, kept, 0)


_LEAVE_ALONE = "add a rule for it to builder/stage/strip.py that leaves it alone"


class Loading(NamedTuple):
    """What the loader said of the libraries of a tree."""

    loaded: int
    failed: str = ""  # the path of the library that cannot be loaded, relative to the tree
    reason: str = ""


# Says each name before it opens it, so that the last line names the library that took the process down.
_LOADER = """
import ctypes, os, sys
for path in sys.stdin.read().splitlines():
    print(path, flush=True)
    ctypes.CDLL(path, mode=os.RTLD_LAZY)
"""


def try_loading(tree: Path) -> Loading:
    """Open every shared library of the tree in one child process, in order of paths, until one fails."""
    libraries = [str(path) for path in elf_files(tree) if re.search(r"\.so(\.|$)", path.name)]
    with clean.environment(tree) as variables:
        done = subprocess.run(
            [sys.executable, "-S", "-c", _LOADER],
            input="\n".join(libraries), env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if not done.returncode:
        return Loading(len(libraries))
    opened = done.stdout.split("\n")[:-1]
    said = done.stderr.strip().splitlines()
    failed = Path(opened[-1]).relative_to(tree).as_posix() if opened else "the first library"
    return Loading(len(opened) - 1, failed, said[-1] if said else f"the process ended with status {done.returncode}")
