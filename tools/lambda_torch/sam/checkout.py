"""A copy of the checkout, like a fresh clone, for tests and benchmarks that build, edit and break it."""

import os
import shutil
import subprocess
from pathlib import Path

from lambda_torch import project
from lambda_torch.sam.runtime import PythonRuntime, of_template


def copy(folder: Path, named: PythonRuntime) -> None:
    """Copy the files of the checkout (not those that git ignores), with `named` as the runtime in the template.

    Files in the folder that are not in the checkout are removed. What SAM built there stays, so that it builds only
    changes.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project.ROOT,
        capture_output=True,
        check=True,
    ).stdout
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    wanted = {name for name in names if (project.ROOT / name).is_file()}
    for path in folder.rglob("*") if folder.exists() else ():
        relative = path.relative_to(folder)
        if relative.parts[0] != ".aws-sam" and not path.is_dir() and relative.as_posix() not in wanted:
            path.unlink()
    for name in sorted(wanted):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project.ROOT / name, target)
    template = folder / project.TEMPLATE.name
    template.write_text(template.read_text().replace(of_template().name, named.name))
