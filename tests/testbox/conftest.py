"""Test boxes, and what runs in them. All of it is skipped where no box can be had."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambda_torch import project, testbox
from lambda_torch.emulator import software
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import Storage
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

HERE = Path(__file__).resolve().parent
BUCKET = "models"


@pytest.fixture(scope="session")
def boxes() -> None:
    """Boxes can be had."""
    reason = testbox.why_not()
    if reason:
        pytest.skip(f"test box: {reason}")


@pytest.fixture(scope="session")
def probes(boxes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[testbox.Rootfs]:
    """A box's files with the small functions of probes.py, and one file that only root may read."""
    task = tmp_path_factory.mktemp("task")
    shutil.copyfile(HERE / "probes.py", task / "probes.py")
    (task / "secret.txt").write_text("closed")
    (task / "secret.txt").chmod(0o600)
    with testbox.Rootfs(task) as files:
        yield files


@pytest.fixture(scope="session")
def function(boxes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[testbox.Rootfs]:
    """A box's files with the project's function and the layer of `make layer`."""
    layer = project.LAYER
    if not (layer / "python" / "torch").is_dir():
        pytest.skip("there is no layer in build/layer. Next: make layer")
    requirements = software.with_layer(layer, print).folders[0]
    task = testbox.package(requirements, tmp_path_factory.mktemp("package") / "task")
    with testbox.Rootfs(task, layer) as files:
        yield files


@pytest.fixture(scope="session")
def variables(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The function's environment, with a release in a local S3."""
    with Processes() as processes:
        storage = Storage(processes, tmp_path_factory.mktemp("s3"), BUCKET)
        publish(release, Bucket(storage.client(), BUCKET))
        yield {"MODEL_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": storage.url}
