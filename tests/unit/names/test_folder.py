"""A release folder is written whole or not at all."""

from pathlib import Path

import pytest
import torch

from lambda_torch.names.folder import check_output, write_release
from model import Model
from model.config import Architecture, Config
from model.network import RNN

CONFIG = Config(architecture=Architecture(hidden_size=4), categories=["A"], letters="abc")


def weights(seed: int) -> dict[str, torch.Tensor]:
    """Random weights that fit CONFIG."""
    torch.manual_seed(seed)
    return {name: tensor.detach() for name, tensor in RNN(1, 4, 4).state_dict().items()}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_is_written_and_replaced(tmp_path: Path) -> None:
    """The folder, and those above it, are made; a second release takes the place of the first; nothing else is left."""
    output = tmp_path / "deep" / "release"
    write_release(output, CONFIG, weights(0))
    first = content(output)
    write_release(output, CONFIG, weights(1))
    assert set(content(output)) == {"model.json", "weights.safetensors"}
    assert content(output)["weights.safetensors"] != first["weights.safetensors"]
    assert [path.name for path in output.parent.iterdir()] == ["release"]
    assert Model.load(output).config == CONFIG


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the time or the place is in a release."""
    write_release(tmp_path / "a", CONFIG, weights(0))
    write_release(tmp_path / "b", CONFIG, weights(0))
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_release_that_does_not_load_replaces_nothing(tmp_path: Path) -> None:
    """With weights that do not fit, the older release stays as it was, and no scratch is left beside it."""
    output = tmp_path / "release"
    write_release(output, CONFIG, weights(0))
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"i2h\.bias"):
        write_release(output, CONFIG, weights(1) | {"i2h.bias": torch.full((4,), float("nan"))})
    assert content(tmp_path) == before


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    """A folder with anything else in it, or a file, is refused before any work."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="has files that do not belong to a release"):
        write_release(tmp_path, CONFIG, weights(0))
    with pytest.raises(ValueError, match="is not a folder"):
        check_output(tmp_path / "thesis.txt")
    assert content(tmp_path) == {"thesis.txt": b"years of work"}
