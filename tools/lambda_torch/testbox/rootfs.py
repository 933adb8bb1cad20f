"""The files of a box: task root, layer and runtime as Lambda unpacks them, and this machine's Python in place of Lambda's."""

import os
import shutil
import stat
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from types import TracebackType
from typing import Self

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lambda_torch.emulator.software import RUNTIME_PACKAGES, emulator_binary
from lambda_torch.testbox.package import compile_all

# 1980-01-01, the date that SAM gives to every file in its zips: bytecode that is checked by date is never valid.
ZIP_DATE = 315_532_800
_BOOTSTRAP = """\
import os, sys
sys.path[:0] = ["/var/task", "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python", "/var/runtime"]
from awslambdaric.__main__ import main
main(["awslambdaric", os.environ["_HANDLER"]])
"""


class Rootfs:
    """Prepared once, used by any number of boxes at a time; a context manager that removes its folder.

    Args:
        task: the function's package, as `sam build` leaves it: code, its requirements, and the bytecode of both.
        opt: the layer's folder, with `python/` in it; None for none.
        parent: where the folder is made, on a disk with room for both.
    """

    def __init__(self, task: Path, opt: Path | None = None, parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="testbox-", dir=parent))
        try:
            # Others than the owner come to read: the function's user.
            self.folder.chmod(0o755)
            self.task = _copied(task, self.folder / "task")
            self.opt = _copied(opt, self.folder / "opt") if opt else _empty(self.folder / "opt")
            self.runtime = _empty(self.folder / "runtime")
            for package in _with_requirements(RUNTIME_PACKAGES):
                _copy_distribution(package, self.runtime)
            compile_all(self.runtime, "/var/runtime")  # AWS's runtime has bytecode, too
            (self.runtime / "bootstrap.py").write_text(_BOOTSTRAP)
            self.emulator = self.folder / "aws-lambda-rie"
            shutil.copyfile(emulator_binary(), self.emulator)
            self.emulator.chmod(0o755)
        except BaseException:
            self.remove()
            raise

    @property
    def python(self) -> Path:
        """The folder that becomes /var/lang."""
        return Path(sys.base_prefix)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _copied(source: Path, target: Path) -> Path:
    """Copy a tree as SAM's zip would bring it: without empty folders' dates, with the modes of the files, all dated 1980."""
    shutil.copytree(source, target, symlinks=False)
    for folder, _, files in os.walk(target, topdown=False):
        for name in files:
            path = Path(folder, name)
            if path.stat().st_uid == 0 or os.geteuid() == 0:
                os.chown(path, 0, 0, follow_symlinks=False)
            os.utime(path, (ZIP_DATE, ZIP_DATE))
        Path(folder).chmod(0o755)
        os.utime(folder, (ZIP_DATE, ZIP_DATE))
    return target


def _with_requirements(names: tuple[str, ...]) -> list[str]:
    """The distributions, and those that they need, as this environment has them."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found[name] = None
            for line in distribution(name).requires or ():
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    waiting.append(requirement.name)
    return list(found)


def _copy_distribution(name: str, target: Path) -> None:
    found = distribution(name)
    for file in found.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        path = target.joinpath(*file.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(str(found.locate_file(file))), path)
        if stat.S_IXUSR & Path(str(found.locate_file(file))).stat().st_mode:
            path.chmod(0o755)
