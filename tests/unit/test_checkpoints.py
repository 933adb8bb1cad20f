"""`lambda-torch convert`: checkpoints become safetensors, and nothing in them is run."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from torch import Tensor, nn

from lambda_torch.commands.convert import command


def convert(source: Path, output: Path, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, [str(source), str(output), *options])


def same(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether the file holds exactly these tensors."""
    found = load_file(path)
    return found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_state_dict_becomes_safetensors(tmp_path: Path, new_format: bool) -> None:
    """Both of torch.save's formats are read, and every tensor comes out as it was."""
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    result = convert(tmp_path / "a.pth", tmp_path / "new" / "a.safetensors")
    assert result.exit_code == 0, result.output
    assert same(tmp_path / "new" / "a.safetensors", dict(state))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_every_type_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    """No number changes its type."""
    torch.save({"a": torch.ones(2, 3).to(dtype).t()}, tmp_path / "a.bin")
    assert convert(tmp_path / "a.bin", tmp_path / "b").exit_code == 0
    assert same(tmp_path / "b", {"a": torch.ones(3, 2).to(dtype)})


@pytest.mark.parametrize(
    ("wrapped", "options", "place"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, [], "state_dict"),
        (lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 0.1}}, [], "model.state_dict"),
        (lambda state: {"nets": {"ema": state}, "epoch": 3}, ["--key", "nets.ema"], "nets.ema"),
    ],
)
def test_a_state_dict_inside_a_checkpoint_is_found(
    tmp_path: Path, wrapped: Any, options: list[str], place: str
) -> None:
    """The usual places are tried, --key names another one, and the message names what is left out."""
    state = {"a": torch.ones(2)}
    torch.save(wrapped(state), tmp_path / "a.ckpt")
    result = convert(tmp_path / "a.ckpt", tmp_path / "b", *options)
    assert result.exit_code == 0, result.output
    assert same(tmp_path / "b", state)
    assert f"under {place}. Left out: " in result.output.replace("\n", " ")


def test_entries_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    """A number among the tensors is refused by name, and left out when that is asked for."""
    torch.save({"a": torch.ones(2), "epoch": 7}, tmp_path / "a.pth")
    refused = convert(tmp_path / "a.pth", tmp_path / "b")
    assert (refused.exit_code, "epoch" in refused.output, "--drop-others" in refused.output) == (1, True, True)
    assert not (tmp_path / "b").exists()
    assert convert(tmp_path / "a.pth", tmp_path / "b", "--drop-others").exit_code == 0
    assert same(tmp_path / "b", {"a": torch.ones(2)})


def test_tensors_that_share_memory_are_written_apart_and_named(tmp_path: Path) -> None:
    """Tied weights and views, which safetensors cannot tell from copies, are cloned, and the names are printed."""
    whole = torch.arange(6.0)
    torch.save(OrderedDict(encoder=whole, decoder=whole, half=whole[:3], own=torch.ones(1)), tmp_path / "a.pth")
    result = convert(tmp_path / "a.pth", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "encoder, decoder, half share memory" in result.output
    assert same(tmp_path / "b", {"encoder": whole, "decoder": whole, "half": whole[:3], "own": torch.ones(1)})


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["plain", "old", "new", "in a state dict", "a module"])
def test_hostile_pickles_are_refused_and_not_run(tmp_path: Path, form: str) -> None:
    """A file that names a function or a class is refused with the next step, whatever is around it; nothing of it runs."""
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    evil: Any = {"a": torch.ones(1), "b": MakesFolder(marker)} if form == "in a state dict" else MakesFolder(marker)
    if form == "plain":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(nn.Linear(1, 1) if form == "a module" else evil, path, _use_new_zipfile_serialization=form != "old")
    result = convert(path, tmp_path / "b")
    assert result.exit_code == 1
    assert "Error" in result.output
    assert not marker.exists()
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """What is no checkpoint, or holds no tensor, is an error in words and leaves nothing."""
    (tmp_path / "a.pth").write_bytes(content)
    result = convert(tmp_path / "a.pth", tmp_path / "b")
    assert result.exit_code == 1
    assert "a.pth" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    """A checkpoint that unpacks to far more than its size is refused before it is unpacked."""
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/9", bytes(64 * 1024 * 1024))
    result = convert(tmp_path / "a.pth", tmp_path / "b")
    assert (result.exit_code, "zip bomb" in result.output) == (1, True)


@pytest.mark.parametrize("value", [[1], torch.ones(1), {1: torch.ones(1)}, {"a": torch.eye(2).to_sparse()}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any) -> None:
    """A list, a bare tensor, numbers as names and sparse tensors are refused."""
    torch.save(value, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", tmp_path / "b").exit_code == 1


def test_an_output_that_is_there_stays(tmp_path: Path) -> None:
    """Only --force replaces a file, and a refused input replaces none even then."""
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "b").write_text("mine")
    assert convert(tmp_path / "a.pth", tmp_path / "b").exit_code == 1
    (tmp_path / "evil").write_bytes(pickle.dumps(MakesFolder(tmp_path / "marker")))
    assert convert(tmp_path / "evil", tmp_path / "b", "--force").exit_code == 1
    assert (tmp_path / "b").read_text() == "mine"
    assert convert(tmp_path / "a.pth", tmp_path / "b", "--force").exit_code == 0
    assert same(tmp_path / "b", {"a": torch.ones(1)})
