"""The layer as a container image: the same function, the same answers, in AWS's base image."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from container.conftest import Project
from integration.emulator.conftest import wait_until
from lambda_torch.emulator.processes import free_port
from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.layers import image
from lambda_torch.sam import docker, image_names
from lambda_torch.sam.runtime import PythonRuntime
from lambda_torch.sam.start_api import Variables
from model import Model, Request

TAG = "lambda-torch-test-image"
RUS = {"category": "Russian", "start_letters": "RUS"}


@pytest.fixture(scope="module")
def built_image(
    built: Project, python_runtime: PythonRuntime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image of the layer and the function that `sam build` made. It is removed afterwards."""
    parts = built.folder / ".aws-sam" / "build"
    folder = tmp_path_factory.mktemp("image") / "context"
    base = image_names.runtime(python_runtime.version)
    plan = image.ImagePlan(parts / "TorchLayer", base, (), parts / "PredictFunction", "app.lambda_handler")
    image.write_context(plan, folder)
    image.build(folder, TAG, print)
    yield TAG
    docker.docker("image", "rm", TAG)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def address(built_image: str, variables: Variables) -> Iterator[str]:
    """Where a container of it takes events, with a release in S3 on this machine."""
    port = free_port()
    wanted = {**CREDENTIALS, "AWS_REGION": REGION, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008", **variables.values}
    options = [word for name, value in wanted.items() for word in ("--env", f"{name}={value}")]
    run = ["run", "--detach", "--rm", "--publish", f"127.0.0.1:{port}:8080", *options, built_image]
    container = docker.docker(*run).strip()
    try:
        url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        assert wait_until(lambda: _answers(url), 300), subprocess.getoutput(f"docker logs {container}")
        yield url
    finally:
        docker.docker("rm", "--force", container)


def _answers(url: str) -> bool:
    # Docker takes connections before the container does, and then ends them.
    try:
        ask(url, RUS)
    except requests.ConnectionError:
        return False
    return True


def ask(url: str, event: Any) -> Any:
    """The function's answer to an event."""
    return requests.post(url, json=event, timeout=300).json()


def test_the_image_answers_as_the_model_does(address: str, release: Path) -> None:
    """A function in the image finds torch in /opt, and gives the names of the release."""
    (expected,) = Model.load(release).predict([Request.model_validate(RUS)])
    answer = ask(address, RUS)
    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"]) == expected.model_dump()


def test_the_image_refuses_as_the_function_does(address: str) -> None:
    """A bad request gets its code."""
    answer = ask(address, {"category": "Klingon", "start_letters": "Q"})
    assert json.loads(answer["body"])["error"]["code"] == "unknown_category"
