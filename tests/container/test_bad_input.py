import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from container import usable
from container.conftest import Project
from integration.emulator.conftest import wait_until
from lambda_torch.emulator.processes import free_port
from lambda_torch.errors import DockerError
from lambda_torch.project import ROOT
from lambda_torch.sam import docker, image_names
from lambda_torch.sam.network import LABEL
from lambda_torch.sam.runtime import PythonRuntime
from lambda_torch.sam.start_api import Variables

COMMAND = str(Path(sys.executable).with_name("lambda-torch"))


def local(release: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `lambda-torch local`, which must end by itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools"), **variables}
    return subprocess.run(
        [COMMAND, "local", "--release", str(release), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_without_docker_make_serve_is_named(release: Path, tmp_path: Path) -> None:
    """Where there is no docker command, the message says what to install, and what works without."""
    done = local(release, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "Docker is not installed" in done.stderr
    assert "make serve" in done.stderr


def containers_with(folder: Path) -> list[str]:
    """The containers, stopped ones included, that have mounted a folder of this machine."""
    return docker.docker("ps", "--all", "--quiet", "--filter", f"volume={folder}").split()


def fake_docker(folder: Path, says: str) -> str:
    """A docker command whose every call fails with this message; the PATH that finds it."""
    script = folder / "docker"
    script.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("says", "told", "next_step"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "no daemon answers",
            "start it",
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "may not use it",
            "usermod -aG docker",
        ),
    ],
    ids=["not running", "no permission"],
)
def test_a_docker_that_cannot_be_used_is_told_apart(
    release: Path, tmp_path: Path, says: str, told: str, next_step: str
) -> None:
    """A daemon that does not run, and one that this user may not use, have different next steps."""
    done = local(release, PATH=fake_docker(tmp_path, says))
    assert done.returncode == 1
    assert told in done.stderr
    assert next_step in done.stderr


def test_a_port_in_use_is_told_before_the_long_work(images: None, release: Path) -> None:
    """Nothing is built or started for a port that somebody else has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = local(release, "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "sam build" not in done.stderr


def test_containers_that_cannot_reach_this_machine_are_told(
    images: None, python_runtime: PythonRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a firewall is between containers and this machine, these tests are skipped with that as the reason."""
    monkeypatch.setattr(docker, "host", lambda: docker.Host("127.0.0.1", "127.0.0.1"))
    with pytest.raises(DockerError, match="does not reach this machine"):
        usable.check(python_runtime.version)


def test_an_image_that_cannot_be_had_is_named(built: Project) -> None:
    """`sam build` with a build image that is nowhere ends with its name, and leaves no container."""
    missing = "localhost:1/no/such-image:latest"
    done = built.sam("build", "--use-container", "--no-cached", "--build-image", missing, "--build-dir", "unused")
    assert done.status != 0
    assert missing.rpartition(":")[0] in done.said
    assert docker.docker("ps", "--quiet", "--filter", f"ancestor={missing}") == ""


def test_a_failed_build_leaves_no_container(images: None, tmp_path: Path, python_runtime: PythonRuntime) -> None:
    """A layer whose make fails ends the build with make's message; no container stays."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "Makefile").write_text("build-Layer:\n\t@echo no compiler for this >&2; exit 1\n")
    (tmp_path / "template.yaml").write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Layer:\n    Type: AWS::Serverless::LayerVersion\n"
        "    Metadata:\n      BuildMethod: makefile\n    Properties:\n      ContentUri: layer\n"
        f"      CompatibleRuntimes: [{python_runtime.name}]\n"
    )
    done = Project(tmp_path).sam("build", "--use-container")
    assert done.status != 0
    assert "no compiler for this" in done.said
    assert containers_with(tmp_path / "layer") == []


@pytest.fixture
def no_compiler(images: None, python_runtime: PythonRuntime) -> Iterator[str]:
    """A build image without a C compiler."""
    name = "lambda-torch-no-compiler"
    removing = "for name in gcc cc clang; do while path=$(command -v $name); do rm $path; done; done"
    recipe = f"FROM {image_names.build(python_runtime.version)}\nRUN {removing}\n"
    build = ["docker", "build", "--quiet", "--tag", name, "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(build, input=recipe, env=environment, text=True, check=True, capture_output=True)
    yield name
    docker.docker("image", "rm", "--force", name)


def test_a_missing_compiler_is_told_at_once(project: Project, no_compiler: str, container_pip: list[str]) -> None:
    """The layer's builder says in the container what to install, before its minutes of work; no container stays."""
    arguments = ["build", "TorchLayer", "--use-container", "--no-cached", "--build-dir", "unused", *container_pip]
    done = project.sam(*arguments, "--build-image", no_compiler)
    assert done.status != 0
    assert "there is no C compiler" in done.said
    assert "install gcc and make" in done.said
    assert docker.docker("ps", "--all", "--quiet", "--filter", f"ancestor={no_compiler}") == ""


def test_sam_local_on_a_port_in_use_ends_and_leaves_no_container(built: Project, variables: Variables) -> None:
    """`sam local start-api` on a port that somebody else has ends with the port's number; no container stays."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = built.sam("local", "start-api", "--port", port, "--env-vars", str(variables.path))
    assert done.status != 0
    assert port in done.said
    # SAM does not wait for Docker to have removed it.
    assert wait_until(lambda: containers_with(built.folder / ".aws-sam" / "build" / "PredictFunction") == [])


def test_make_local_serves_and_leaves_nothing_when_it_is_ended(built: Project, release: Path) -> None:
    """`lambda-torch local` in the built project prints a curl line that works; ended, it leaves no container and no network."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(built.folder / "tools")}
    line = [sys.executable, "-c", "from lambda_torch.cli import main; main()", "local", "--no-build"]
    line += ["--release", str(release)]
    with subprocess.Popen(
        [*line, "--port", str(port)],
        cwd=built.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            shown = process.stdout.readline()
            assert shown.startswith("curl "), process.communicate()
            done = subprocess.run(
                ["/bin/sh", "-c", f"{shown.strip()} --silent --show-error"], capture_output=True, text=True, timeout=300
            )
            assert done.stdout.startswith("["), done
        finally:
            process.terminate()
            process.communicate(timeout=120)
    assert process.returncode == 0
    assert docker.docker("network", "ls", "--quiet", "--filter", f"label={LABEL}={process.pid}") == ""
    assert docker.docker("ps", "--all", "--quiet", "--filter", f"network=lambda-torch-{process.pid}") == ""
