"""The files of a test box: task root, layer and runtime as Lambda unpacks them, and this machine's Python."""

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

# 1980-01-01, the date that SAM gives to every file in its zip files. Bytecode that is checked by date is never valid
# there.
ZIP_DATE = 315_532_800
_BOOTSTRAP = """\
import os, sys
sys.path[:0] = ["/var/task", "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python",
    "/var/runtime"]
from awslambdaric.__main__ import main
main(["awslambdaric", os.environ["_HANDLER"]])
"""


class Rootfs:
    """A prepared file system for any number of test boxes, as a context manager that removes its folder.

    Args:
        task: the function's package, as `sam build` makes it: code, its requirements, and the bytecode of both.
        opt: the folder of the layer, which contains `python/`. None for no layer.
        parent: the folder is made here, on a disk with space for both.
    """

    def __init__(self, task: Path, opt: Path | None = None, parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="testbox-", dir=parent))
        try:
            # The function's user, who is not the owner, reads it.
            self.folder.chmod(0o755)
            self.task = _copied(task, self.folder / "task")
            self.opt = _copied(opt, self.folder / "opt") if opt else _empty(self.folder / "opt")
            self.runtime = _empty(self.folder / "runtime")
            for package in _with_requirements(RUNTIME_PACKAGES):
                _copy_distribution(package, self.runtime)
            compile_all(self.runtime, "/var/runtime")  # AWS's runtime has bytecode too
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
    """Copy a tree as SAM's zip file would contain it: the same modes, and the date 1980 for every file and folder."""
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
    """The distributions and their requirements, as installed in this environment."""
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
