"""`init --from`: models that exist already."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from integration.own.conftest import checked, environment, run, served
from lambda_torch import project

NETWORK = """\
import torch


class Rows(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, rows):
        return self.layer(rows)


class Pictures(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 3)

    def forward(self, pictures):
        return self.layer(pictures).mean((2, 3))
"""
# Runs where transformers is, and leaves the folder of a small classifier with random weights.
FOLDER = """\
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

words = {word: number for number, word in enumerate("[PAD] [UNK] [CLS] [SEP] the food was great , .".split())}
tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained("classifier")
config = BertConfig(
    vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=32, id2label={0: "bad", 1: "good"},
)
BertForSequenceClassification(config).save_pretrained("classifier")
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A file with two networks."""
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


def made(path: Path, name: str) -> torch.nn.Module:
    """A network of the file, with random weights."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["net"] = module  # TorchScript reads the sources of its class
    try:
        spec.loader.exec_module(module)
        network: torch.nn.Module = getattr(module, name)()
    finally:
        del sys.modules["net"]
    return network


def test_a_state_dict_and_its_class_make_a_project(network: Path, tmp_path: Path) -> None:
    """The answers of the served project are those of the network."""
    rows = made(network, "Rows").eval()
    torch.save({"state_dict": rows.state_dict(), "epoch": 3}, tmp_path / "rows.pth")
    run(tmp_path, "init", "mine", "--from", "rows.pth", "--module", "net.py:Rows")
    assert {tick["state"] for tick in checked(tmp_path / "mine").values()} == {"ok"}
    with served(tmp_path / "mine") as running:
        answer = running.ask(b'{"input": [1, 2, 3, 4]}')["output"]
    assert answer == pytest.approx(rows(torch.tensor([[1.0, 2, 3, 4]]))[0].tolist(), abs=1e-5)


def test_an_exported_program_makes_a_project(network: Path, tmp_path: Path) -> None:
    """A program with a fixed batch is called for each request, and the stack is told to take programs."""
    rows = made(network, "Rows").eval()
    torch.export.save(torch.export.export(rows, (torch.zeros(1, 4),)), tmp_path / "rows.pt2")
    run(tmp_path, "init", "mine", "--from", "rows.pt2")
    folder = tmp_path / "mine"
    assert "AllowPrograms=true" in (folder / "samconfig.toml").read_text()
    assert {tick["state"] for tick in checked(folder).values()} == {"ok"}
    with served(folder) as running:
        answers = running.ask(b'[{"input": [1, 2, 3, 4]}, {"input": [4, 3, 2, 1]}]')
    wanted = rows(torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1]])).tolist()
    assert [each["output"] for each in answers] == [pytest.approx(each, abs=1e-5) for each in wanted]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_of_pictures_takes_pictures(network: Path, tmp_path: Path) -> None:
    """Where an input is a picture in size, the project takes image files."""
    pictures = made(network, "Pictures").eval()
    with torch.no_grad():
        torch.jit.trace(pictures, torch.zeros(1, 3, 64, 64)).save(tmp_path / "pictures.pt")
    refused = run(tmp_path, "init", "mine", "--from", "pictures.pt", status=1)
    assert "add --input" in refused.stderr
    assert not (tmp_path / "mine").exists()
    run(tmp_path, "init", "mine", "--from", "pictures.pt", "--input", "3,64,64")
    assert {tick["state"] for tick in checked(tmp_path / "mine").values()} == {"ok"}


def test_a_folder_from_hugging_face_goes_to_an_answer_in_two_commands(tmp_path: Path) -> None:
    """`init --from hf:FOLDER` and `serve` are enough for a text classifier. `check` is green, size included."""
    libraries = tmp_path / "libraries"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", str(libraries)]
    pins = [f"--constraint={project.ROOT / each / 'requirements.txt'}" for each in ("layers/torch", "src")]
    subprocess.run([*pip, *pins, "transformers==5.24.0"], check=True, capture_output=True)
    variables = {**environment(), "PYTHONPATH": str(libraries)}
    subprocess.run([sys.executable, "-c", FOLDER], cwd=tmp_path, env=variables, check=True, capture_output=True)
    run(tmp_path, "init", "mine", "--from", "hf:classifier")
    with served(tmp_path / "mine") as running:
        answer = running.ask(b'{"text": "the food was great"}')
    assert answer["label"] in ("bad", "good")
    ticks = checked(tmp_path / "mine")
    assert [name for name, tick in ticks.items() if tick["state"] != "ok"] == []
    assert "for its own packages" in ticks["size"]["message"]


def test_an_architecture_of_torchvision_goes_to_an_answer_in_two_commands(tmp_path: Path) -> None:
    """`init --from torchvision:resnet18` and `serve` are enough. torchvision's Python part is real, without operators."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    torchvision_without_operators(tmp_path / "unpacked", wheels)
    # The variable takes the place of what pip is configured with, which may be where torch's wheel is.
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    folders = re.findall(r"^[^=]*\.find-links='(.*)'$", configured, re.MULTILINE)
    variables = {"PIP_FIND_LINKS": " ".join(dict.fromkeys([str(wheels), *folders]))}
    run(tmp_path, "init", "mine", "--from", "torchvision:resnet18", more=variables)
    with served(tmp_path / "mine") as running:
        example = (tmp_path / "mine" / "events" / "bare.json").read_bytes()
        answer = running.ask(example)
    labels = json.loads((tmp_path / "mine" / "release" / "config.json").read_text())["labels"]
    assert len(labels) == 1000
    assert answer["label"] in labels


def torchvision_without_operators(folder: Path, wheels: Path) -> None:
    """Make a wheel 0.28.0+cpu of PyPI's 0.28.0, whose compiled operators need CUDA. Its classifiers use none of them."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), "torchvision==0.28.0"], check=True, capture_output=True)
    for path in [*folder.rglob("*.so*"), *folder.rglob("*.pyc")]:
        path.unlink()
    shutil.rmtree(folder / "torchvision-0.28.0.dist-info")
    with (folder / "torchvision" / "extension.py").open("a") as file:
        file.write(
            '\n_declared = torch.library.Library("torchvision", "DEF")\n'
            '_declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n'
            '_declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n'
        )
    records = folder / "torchvision-0.28.0+cpu.dist-info"
    records.mkdir()
    (records / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0+cpu\nRequires-Dist: numpy\n"
        "Requires-Dist: torch (==2.13.0)\nRequires-Dist: pillow\n"
    )
    (records / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    with zipfile.ZipFile(wheels / "torchvision-0.28.0+cpu-py3-none-any.whl", "w") as wheel:
        lines = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if not name.startswith(("torchvision/", records.name)):
                continue
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
            lines.append(f"{name},sha256={digest},{path.stat().st_size}")
            wheel.write(path, name)
        wheel.writestr(f"{records.name}/RECORD", "\n".join([*lines, f"{records.name}/RECORD,,", ""]))
