"""The release that is served and measured where none is named."""

import subprocess
import sys
from pathlib import Path

from lambda_torch import project


def a_release() -> Path:
    """The release in build/release, whichever it is; trained first, with the defaults, if there is none.

    Training runs in a process of its own: some callers must set torch's threads before torch is imported.

    Raises:
        subprocess.CalledProcessError: training failed; it has told why.
    """
    if not project.RELEASE.exists():
        arguments = ("train", "--output", str(project.RELEASE))
        subprocess.run([sys.executable, "-c", "from lambda_torch.cli import main; main()", *arguments], check=True)
    return project.RELEASE
