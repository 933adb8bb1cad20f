"""`init --from`: models that exist already."""

import json
import sys
from pathlib import Path

import pytest
import torch

from integration.own.conftest import checked, run, served
from layer_kit import user_models

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
    user_models.text_classifier(tmp_path / "classifier")
    run(tmp_path, "init", "mine", "--from", "hf:classifier")
    with served(tmp_path / "mine") as running:
        answer = running.ask(b'{"text": "the food was great"}')
    assert answer["label"] in user_models.LABELS
    ticks = checked(tmp_path / "mine")
    assert [name for name, tick in ticks.items() if tick["state"] != "ok"] == []
    assert "for its own packages" in ticks["size"]["message"]


@pytest.mark.skipif(bool(user_models.why_no_torchvision()), reason=user_models.why_no_torchvision())
def test_an_architecture_of_torchvision_goes_to_an_answer_in_two_commands(tmp_path: Path) -> None:
    """`init --from torchvision:resnet18` and `serve` are enough."""
    run(tmp_path, "init", "mine", "--from", "torchvision:resnet18", more=user_models.pip_with_torchvision())
    with served(tmp_path / "mine") as running:
        example = (tmp_path / "mine" / "events" / "bare.json").read_bytes()
        answer = running.ask(example)
    labels = json.loads((tmp_path / "mine" / "release" / "config.json").read_text())["labels"]
    assert len(labels) == 1000
    assert answer["label"] in labels
