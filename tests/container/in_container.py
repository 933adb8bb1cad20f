"""An environment of the local runtime whose process is AWS's container: its image, its runtime client, the built layer."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lambda_torch.emulator.environment import Environment, runtime_variables
from lambda_torch.emulator.function import Function
from lambda_torch.emulator.processes import LineSink, Processes
from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.errors import DockerError
from lambda_torch.sam import docker


@dataclass(frozen=True)
class Package:
    """What a container runs.

    Attributes:
        image: AWS's, or its stand-in.
        folders: what is mounted for reading, by the path in the container.
    """

    image: str
    folders: dict[str, Path]


class ContainerEnvironment(Environment):
    """One container of a function. Its Runtime API listens where only containers of this machine reach it.

    Args:
        package: what it runs.
        Others as of `Environment`.
    """

    def __init__(
        self, package: Package, function: Function, processes: Processes, folder: Path, name: str, on_line: LineSink
    ) -> None:
        self.HOST = docker.host().bind
        super().__init__(function, processes, folder, name, on_line)
        self._package = package
        self._container = f"lambda-torch-{uuid.uuid4().hex[:12]}"

    def command(self, runtime_api: str) -> tuple[list[str], dict[str, str]]:
        """`docker run`, with the variables that Lambda sets. The paths are the image's own."""
        function = self._function
        address = runtime_api.replace(self.HOST, docker.host().name)
        variables = {
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **CREDENTIALS,
            **function.variables,
            **runtime_variables(function, address),
        }
        run = ["docker", "run", "--rm", "--name", self._container]
        run += [f"--volume={folder}:{path}:ro" for path, folder in self._package.folders.items()]
        run += [f"--env={name}={value}" for name, value in variables.items()]
        return [*run, self._package.image, function.handler], {"PATH": "/usr/local/bin:/usr/bin:/bin"}

    async def stop(self) -> None:
        """End the container. A signal alone would not: in a container, Python ignores what it does not handle."""
        with contextlib.suppress(DockerError):  # it has ended
            await asyncio.to_thread(docker.docker, "rm", "--force", self._container)
        await super().stop()


def maker(
    package: Package, function: Function, processes: Processes, folder: Path, on_line: Callable[[str], None]
) -> Callable[[int], ContainerEnvironment]:
    """What makes a pool's environments."""
    return lambda number: ContainerEnvironment(package, function, processes, folder, f"container {number}", on_line)
