"""Models of transformers and torchvision, from a folder to an answer under Lambda's limits, as docs/your-own-model.md says."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from builder import clean
from integration.own.conftest import run
from lambda_torch import testbox
from lambda_torch.emulator import sandbox_variables, software
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import CREDENTIALS, Storage
from lambda_torch.packages import resolving
from lambda_torch.project import BUILD, EVENTS, LAYER
from layer_kit import extra_layer, torchvision_programs, user_models
from layer_kit.extra_layer import ExtraLayer

BUCKET = "models"
ARCHITECTURE = "resnet18"
TEXTS = ("the food was great", "great , great . the", "was the food", ". food the , was", "was was was")
MEMORY_MB = 1769


@pytest.fixture(scope="module")
def projects(boxes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two projects of `init --from`: `texts`, of a folder of Hugging Face, and `pictures`, of torchvision."""
    if reason := user_models.why_no_torchvision():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("own")
    user_models.text_classifier(folder / "classifier")
    run(folder, "init", "texts", "--from", "hf:classifier")
    variables = user_models.pip_with_torchvision()
    run(folder, "init", "pictures", "--from", f"torchvision:{ARCHITECTURE}", more=variables)
    return folder


@pytest.fixture(scope="module")
def layer(projects: Path) -> ExtraLayer:
    """A layer of what both projects name for theirs: building two would take twice as long."""
    if not (LAYER / "python" / "torch").is_dir():
        pytest.skip("there is no layer in build/layer. Next: make layer")
    lines = [
        line
        for name in ("texts", "pictures")
        for line in resolving.lines_of(projects / name / "layer" / resolving.FILE_NAME)
    ]
    return extra_layer.with_extras(lines, user_models.pip_with_torchvision())


@contextmanager
def published(project: Path, layer: ExtraLayer, scratch: Path) -> Iterator[testbox.Box]:
    """A box with the project's function, after `lambda-torch publish` has brought its release into the bucket."""
    requirements = software.with_layer(LAYER, print).folders[0]
    task = testbox.package(requirements, scratch / "task", project / "model")
    with Processes() as processes, testbox.Rootfs(task, layer.root) as files:
        storage = Storage(processes, scratch, BUCKET)
        options = ("--bucket", BUCKET, "--endpoint-url", storage.url)
        release = run(project, "publish", "release", *options, more=CREDENTIALS).stdout.strip()
        variables = sandbox_variables.variables("/tmp") | {"MODEL_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": storage.url}
        with testbox.Box(files, "app.lambda_handler", memory_mb=MEMORY_MB, variables=variables) as box:
            assert _answer(box, json.loads((EVENTS / "api-v1-health.json").read_bytes()))["release"] == release
            yield box


def _answer(box: testbox.Box, event: Any) -> Any:
    outcome = box.invoke(json.dumps(event).encode())
    assert not outcome.failed, box.log()
    answer = json.loads(outcome.payload)
    return json.loads(answer["body"]) if "statusCode" in answer else answer


@pytest.mark.timeout(3600)
def test_a_folder_of_hugging_face_goes_to_an_answer_under_lambdas_limits(
    projects: Path, layer: ExtraLayer, tmp_path: Path
) -> None:
    """The function in the box gives the labels and scores that transformers gives beside stock PyTorch."""
    wanted = user_models.judged(projects / "classifier", TEXTS)
    assert {label for label, _ in wanted} == set(user_models.LABELS)
    with published(projects / "texts", layer, tmp_path) as box:
        answers = [_answer(box, {"text": text}) for text in TEXTS]
        assert box.limits.peak_bytes() < MEMORY_MB * 1024 * 1024
    assert [answer["label"] for answer in answers] == [label for label, _ in wanted]
    assert [answer["score"] for answer in answers] == [pytest.approx(score, abs=1e-4) for _, score in wanted]


@pytest.mark.timeout(3600)
def test_a_network_of_torchvision_goes_to_an_answer_under_lambdas_limits(
    projects: Path, layer: ExtraLayer, tmp_path: Path
) -> None:
    """The function in the box gives the labels and scores that torchvision gives beside stock PyTorch."""
    project = projects / "pictures"
    pictures = []
    for number, colour in enumerate(("red", "black", "white")):
        pictures.append(tmp_path / f"{number}.png")
        Image.new("RGB", (320, 240), colour).save(pictures[-1])
    (packages,) = (project / BUILD.name / "emulator").glob("model-*")
    wanted = user_models.named(packages, ARCHITECTURE, project / "release", pictures)
    with published(project, layer, tmp_path) as box:
        answers = [_answer(box, {"image": base64.b64encode(path.read_bytes()).decode()}) for path in pictures]
        assert box.limits.peak_bytes() < MEMORY_MB * 1024 * 1024
    assert [answer["label"] for answer in answers] == [label for label, _ in wanted]
    assert [answer["score"] for answer in answers] == [pytest.approx(score, abs=1e-4) for _, score in wanted]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*torchvision_programs.QUIET, *torchvision_programs.OTHERS])
def test_torchvision_answers_as_beside_stock_torch(layer: ExtraLayer, name: str) -> None:
    """A program with torchvision gives what it gives beside stock PyTorch, and those of the first table complete no import."""
    program = (torchvision_programs.QUIET | torchvision_programs.OTHERS)[name]
    answers = []
    for tree in (layer.root / "python", layer.stock):
        done = clean.run(tree, "-c", torchvision_programs.whole(program))
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    (ours, completed_by), (theirs, _) = answers
    assert ours == theirs
    assert not (name in torchvision_programs.QUIET and completed_by)
