"""Release folders with random weights: made in milliseconds, and free to be broken."""

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.config import Architecture, Config
from model.network import RNN


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Path]:
    """Write a release folder; keyword arguments replace values of its `model.json`."""

    def make(**replaced: object) -> Path:
        values: dict[str, object] = {
            "architecture": Architecture(hidden_size=16),
            "categories": ["Russian", "Greek", "Dutch"],
            "letters": string.ascii_letters + " .,;'-",
        }
        config = Config.model_validate(values | replaced)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            rnn = RNN(len(config.categories), len(config.letters) + 1, config.architecture.hidden_size)
        folder = tmp_path / "release"
        folder.mkdir()
        save_file(rnn.state_dict(), folder / "weights.safetensors")
        (folder / "model.json").write_text(config.model_dump_json())
        return folder

    return make
