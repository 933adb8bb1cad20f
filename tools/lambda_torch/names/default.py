"""The release that is served and measured if no other is named."""

import subprocess
import sys
from pathlib import Path

from lambda_torch import project


def a_release() -> Path:
    """The release in build/release. If there is none, it is trained first, with the defaults.

    Training runs in a separate process, because some callers must set torch's threads before they import torch.

    Raises:
        subprocess.CalledProcessError: the training failed. Its output says why.
    """
    if not project.RELEASE.exists():
        arguments = ("train", "--output", str(project.RELEASE))
        subprocess.run([sys.executable, "-c", "from lambda_torch.cli import main; main()", *arguments], check=True)
    return project.RELEASE
