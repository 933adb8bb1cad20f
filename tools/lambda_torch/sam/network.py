"""A Docker network for one run. It contains all containers of the run, so that those that are left can be removed."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lambda_torch.errors import DockerError
from lambda_torch.sam.docker import docker

# Its value is the process id of the owner of the run.
LABEL = "lambda-torch.run"


@contextmanager
def network() -> Iterator[str]:
    """Make a network for the block, and give its name.

    First, it removes the networks and containers of runs that were killed and could not remove them.

    Raises:
        DockerError: Docker cannot make a network.
    """
    _remove_stale()
    name = f"lambda-torch-{os.getpid()}"
    docker("network", "create", "--label", f"{LABEL}={os.getpid()}", name)
    try:
        yield name
    finally:
        remove(name)


def containers(name: str) -> list[str]:
    """The ids of the containers in a network, including stopped ones."""
    return docker("ps", "--all", "--quiet", "--filter", f"network={name}").split()


def remove(name: str) -> None:
    """Remove a network and every container in it. It is not an error if it does not exist."""
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
