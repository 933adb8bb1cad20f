"""The builder's own verification finds what a broken step would leave behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import VerifyError
from builder.verify import verify


@pytest.fixture
def tampered(stock: Path, tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A tree like the stock one, of links, in which one text of one file of torch is replaced."""

    def make(name: str, old: str, new: str) -> Path:
        for entry in stock.iterdir():
            if entry.name != "torch":
                (tmp_path / entry.name).symlink_to(entry)
        folder = Path("torch")
        for part in Path(name).parts[1:]:
            (tmp_path / folder).mkdir()
            for entry in (stock / folder).iterdir():
                if entry.name != part:
                    (tmp_path / folder / entry.name).symlink_to(entry)
            folder /= part
        text = (stock / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
        if not name.endswith("torch/__init__.py"):
            (tmp_path / "torch/__init__.py").unlink()
            shutil.copy(stock / "torch/__init__.py", tmp_path / "torch/__init__.py")
        (tmp_path / "numpy").unlink()
        shutil.copytree(stock / "numpy", tmp_path / "numpy", symlinks=True)
        return tmp_path

    return make


def test_a_different_result_is_named(stock: Path, tampered: Callable[[str, str, str], Path]) -> None:
    """A tree whose activation computes something else is refused, naming the output of the workload that differs."""
    tree = tampered("torch/nn/modules/activation.py", "return F.softsign(input)", "return F.softsign(input) + 1")
    with pytest.raises(VerifyError, match=r"workload: 1 outputs differ(.|\n)*activations/\d+-Softsign: \d+ of 8240"):
        verify(stock, tree)


def test_a_module_that_cannot_be_imported_is_named(stock: Path, tampered: Callable[[str, str, str], Path]) -> None:
    """A tree whose torch cannot be imported is refused with the end of the traceback."""
    tree = tampered("torch/functional.py", "import torch.nn.functional as F", "import torch.nn.missing as F")
    with pytest.raises(VerifyError, match=r"ended with status 1(.|\n)*torch\.nn\.missing"):
        verify(stock, tree)


def test_a_function_hidden_by_its_module_is_named(stock: Path, tampered: Callable[[str, str, str], Path]) -> None:
    """A tree in which a name is the submodule instead of the function that stock binds is refused, with both."""
    tree = tampered("torch/autograd/__init__.py", "import gradcheck, gradgradcheck", "import gradgradcheck")
    message = r"torch\.autograd\.gradcheck is module torch\.autograd\.gradcheck, and in stock torch builtins\.function"
    with pytest.raises(VerifyError, match=message):
        verify(stock, tree)


def test_another_torch_on_the_path_is_noticed(stock: Path, tmp_path: Path) -> None:
    """A tree whose torch is a link to another tree's is refused: it would not be in the layer."""
    for entry in stock.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    with pytest.raises(VerifyError, match="was imported instead of"):
        verify(stock, tmp_path)
