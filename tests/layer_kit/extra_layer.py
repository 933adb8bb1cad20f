"""A layer with packages that users add, built once for all the tests that need one."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from builder import inputs
from builder.stage import policy
from lambda_torch import project

FOLDER = project.BUILD / "tests" / "extra-layer"


class ExtraLayer(NamedTuple):
    """`root` becomes /opt. `stock` has the same wheels, before they were packed."""

    root: Path
    stock: Path


def with_extras(requirements: Sequence[str], variables: Mapping[str, str]) -> ExtraLayer:
    """The layer with these packages, built by the builder unless the one there is of these very inputs.

    What the build of the layer without them has kept is taken as it is: torch's libraries are not split again. The comparison of
    the whole layer with stock PyTorch is left out, since the layer without the packages has had it.

    Args:
        requirements: lines of a requirements file.
        variables: for pip, which may need to be told where wheels are.
    """
    lines = "".join(f"{line}\n" for line in sorted(set(requirements)))
    key = hashlib.sha256(f"{inputs.digest()}\n{lines}".encode()).hexdigest()
    layer = ExtraLayer(FOLDER / "layer", FOLDER / "work" / "staged")
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = FOLDER / "key"
    with FileLock(FOLDER / "lock"):
        if not done.is_file() or done.read_text() != key:
            done.unlink(missing_ok=True)
            listed = FOLDER / "extra-requirements.txt"
            listed.write_text(lines)
            command = [sys.executable, "-m", "builder", "--output", layer.root, "--work", FOLDER / "work"]
            command += ["--results-of", project.BUILD / "cache" / "layer", "--no-verify"]
            # The packages of several projects together, and GPU code in the wheel of torchvision, which no real CPU wheel has.
            command += ["--budget", policy.LIMIT_BYTES]
            command += ["--requirements", project.LAYER_SOURCE / "requirements.txt", "--requirements", listed]
            environment = {**os.environ, **variables, "PYTHONPATH": str(project.LAYER_SOURCE)}
            subprocess.run([*map(str, command)], env=environment, check=True)
            done.write_text(key)
    return layer
