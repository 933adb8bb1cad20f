"""A Docker network for one run. Whatever container of the run is left in the end is in it, is found by it, and goes with it."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lambda_torch.errors import DockerError
from lambda_torch.sam.docker import docker

# The value is the process id of the run's owner.
LABEL = "lambda-torch.run"


@contextmanager
def network() -> Iterator[str]:
    """The name of a network that lasts as long as the block.

    Networks of runs that were killed, and could not remove theirs, go first, with their containers.

    Raises:
        DockerError: Docker cannot make one.
    """
    _remove_stale()
    name = f"lambda-torch-{os.getpid()}"
    docker("network", "create", "--label", f"{LABEL}={os.getpid()}", name)
    try:
        yield name
    finally:
        remove(name)


def containers(name: str) -> list[str]:
    """The ids of the containers in a network, stopped ones included."""
    return docker("ps", "--all", "--quiet", "--filter", f"network={name}").split()


def remove(name: str) -> None:
    """Remove a network and every container in it; one that is gone already is no error."""
    with contextlib.suppress(DockerError):
        left = containers(name)
        if left:
            docker("rm", "--force", "--volumes", *left)
        docker("network", "rm", name)


def _remove_stale() -> None:
    format_ = '{{.Name}} {{.Label "' + LABEL + '"}}'
    for line in docker("network", "ls", "--filter", f"label={LABEL}", "--format", format_).splitlines():
        name, _, owner = line.partition(" ")
        if not Path("/proc", owner).exists() and Path("/proc").exists():
            remove(name)
