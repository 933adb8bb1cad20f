"""A text classifier of Hugging Face, from its folder to an answer under Lambda's limits, with a layer that has transformers."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integration.own.conftest import checked, environment, run
from integration.own.test_existing import FOLDER
from lambda_torch import project, testbox
from lambda_torch.emulator import software
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import Storage
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from lambda_torch.testbox import Box, Rootfs
from layer_kit.with_extras import target_of, with_extras

# Stock's answer to the project's example, as a line of JSON.
ANSWER = """\
import json, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
network = AutoModelForSequenceClassification.from_pretrained("classifier").eval()
tokens = AutoTokenizer.from_pretrained("classifier")(
    "The food was great, and the people were friendly.", truncation=True, max_length=32, return_tensors="pt"
)
with torch.inference_mode():
    best = network(**tokens).logits.softmax(1).max(1)
print(json.dumps({"label": network.config.id2label[best.indices.item()], "score": round(best.values.item(), 4)}))
"""
CACHE = project.BUILD / "cache" / "layer"


@pytest.mark.timeout(1800)
def test_a_text_classifier_goes_from_its_folder_to_an_answer_in_the_box(boxes: None, tmp_path: Path) -> None:
    """`init --from hf:FOLDER`, a layer with what the project names, and a green `check`: then the function answers as stock."""
    if not (project.LAYER / "python" / "torch").is_dir() or not (CACHE / "staged" / "torch").is_dir():
        pytest.skip("there is no layer in build/layer, or its build kept nothing. Next: make layer")
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", str(packages)]
    pins = [f"--constraint={project.LAYER_SOURCE / 'requirements.txt'}"]
    subprocess.run([*pip, "--no-compile", *pins, "transformers==5.24.0"], check=True, capture_output=True)
    variables = {**environment(), "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", FOLDER], cwd=tmp_path, env=variables, check=True, capture_output=True)
    stock = subprocess.run([sys.executable, "-c", ANSWER], cwd=tmp_path, env=variables, check=True, capture_output=True)

    run(tmp_path, "init", "mine", "--from", "hf:classifier")
    mine = tmp_path / "mine"
    layer = mine / "build" / "layer"
    layer.mkdir(parents=True)
    chosen = with_extras(project.LAYER, CACHE, packages, layer, target_of(CACHE, platform.machine()))
    assert "transformers" in chosen.extra
    assert not list(layer.glob("python/transformers/**/*.py"))
    # The network's packages are packed: a check with this layer is green, its size included.
    assert {name: tick["state"] for name, tick in checked(mine).items() if tick["state"] != "ok"} == {}

    requirements = software.with_layer(layer, print).folders[0]
    task = testbox.package(requirements, tmp_path / "task", mine / "model")
    shutil.rmtree(packages)
    with Processes() as processes, Rootfs(task, layer) as files:
        storage = Storage(processes, tmp_path / "s3", "models")
        publish(mine / "release", Bucket(storage.client(), "models"))
        more = {"MODEL_BUCKET": "models", "AWS_ENDPOINT_URL_S3": storage.url, "HF_HUB_OFFLINE": "1"}
        with Box(files, "app.lambda_handler", memory_mb=3008, variables=more) as box:
            event = (mine / "events" / "api.json").read_bytes()
            answer = json.loads(box.invoke(event).payload)
            assert answer["statusCode"] == 200, answer
            assert json.loads(answer["body"]) == json.loads(stock.stdout.splitlines()[-1])
