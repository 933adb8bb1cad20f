"""The project as its users meet it: the real SAM CLI, in a copy of the checkout, building and running in containers.

All of it is skipped where Docker is not usable. One `sam build --use-container` serves all tests.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from container import usable
from container.images import build as images_
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.errors import DockerError, EmulatorError
from lambda_torch.project import ROOT
from lambda_torch.sam import checkout, command, docker, image_names, pip_settings, runtime, start_api
from lambda_torch.sam.runtime import PythonRuntime

HERE = Path(__file__).resolve().parent
COPY = ROOT / "build" / "tests" / "container" / "project"
# A command that hangs must not hold up a whole run; the layer's build takes minutes, and nine on a busy machine.
SAM_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for the images and the build of the whole layer."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(SAM_SECONDS + 300))


@pytest.fixture(scope="session")
def python_runtime() -> PythonRuntime:
    """The runtime that is built for on this machine."""
    return runtime.choose(print)


@pytest.fixture(scope="session")
def images(python_runtime: PythonRuntime) -> None:
    """Docker, with AWS's images or their stand-ins, whose containers can be used."""
    # As .ci/run sets it: "no" leaves these tests out, "yes" makes a failure of what would be a skip.
    wanted = os.environ.get("LAMBDA_TORCH_CI_DOCKER", "auto")
    if wanted == "no":
        pytest.skip("container tests: LAMBDA_TORCH_CI_DOCKER=no")
    try:
        docker.require()
        images_.provide(python_runtime.version, print)
        usable.check(python_runtime.version)
    except (DockerError, images_.ImagesError) as error:
        if wanted == "yes":
            raise
        pytest.skip(f"container tests: {error}")


class SamResult(NamedTuple):
    """What a sam command left."""

    status: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """All of it, for messages and searches."""
        return self.stdout + self.stderr


class Project(NamedTuple):
    """A copy of the checkout, as someone who cloned it has it."""

    folder: Path

    def sam(self, *arguments: str, variables: Mapping[str, str] | None = None) -> SamResult:
        """Run `sam` with these arguments in the folder, as if typed there."""
        done = subprocess.run(
            [command.executable(), *arguments],
            cwd=self.folder,
            env=command.environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SAM_SECONDS,
        )
        return SamResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def project(python_runtime: PythonRuntime) -> Project:
    """The copy that the tests build and run. Its folder stays, so that a second run builds only what changed."""
    checkout.copy(COPY, python_runtime)
    # On a busy machine a start takes longer than the function's time limit, and no test fails for being slow.
    template = COPY / "template.yaml"
    text, times = re.subn(r"(\n  Timeout:\n    Type: Number\n    Default: )\d+", r"\g<1>600", template.read_text())
    assert times == 1
    template.write_text(text)
    return Project(COPY)


@pytest.fixture(scope="session")
def container_pip(images: None, python_runtime: PythonRuntime) -> Iterator[list[str]]:
    """Options of `sam build` with which pip in the container finds what this machine's pip finds; none for stand-ins."""
    with pip_settings.for_containers(docker.host(), image_names.build(python_runtime.version)) as variables:
        yield [f"--container-env-var={name}={value}" for name, value in variables.items()]


@pytest.fixture(scope="session")
def built(project: Project, container_pip: list[str]) -> Project:
    """The project after `sam build --use-container`."""
    done = project.sam("build", "--use-container", *container_pip)
    assert done.status == 0, done.said[-4000:]
    return project


@pytest.fixture(scope="session")
def variables(release: Path, images: None) -> Iterator[start_api.Variables]:
    """Moto's S3 on this machine, reachable from containers, with a release in it; a file for `--env-vars` names it."""
    with Processes() as processes, start_api.storage(release, processes, print) as (_, written):
        yield written


@pytest.fixture(scope="session")
def api(built: Project, variables: start_api.Variables) -> Iterator[start_api.Api]:
    """`sam local start-api`, with the warm containers of samconfig.toml."""
    lines: list[str] = []
    with Processes() as processes:
        try:
            with start_api.start_api(processes, variables, free_port(), lines.append, built.folder) as running:
                yield running
        except EmulatorError as error:
            raise AssertionError("\n".join(lines)) from error
