"""Which torch the function gets, and what is said where that cannot be."""

import sys
import sysconfig
from pathlib import Path

import pytest

from lambda_torch import project
from lambda_torch.emulator import software
from lambda_torch.errors import EmulatorError


def ignore(_text: str) -> None:
    """A report that nobody reads."""


def test_auto_without_a_built_layer_is_stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no layer was built, the packages of this very Python are used, and the label says so."""
    monkeypatch.setattr(project, "LAYER", tmp_path / "layer")
    chosen = software.choose("auto", ignore)
    assert chosen.opt is None
    assert chosen.label.startswith("stock PyTorch")
    assert Path(sysconfig.get_paths()["purelib"]) in chosen.folders


def test_auto_takes_the_built_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A built layer is found by itself; its folder stands between the function's packages and the runtime's."""
    python = tmp_path / "layer" / "python"
    (python / "torch").mkdir(parents=True)
    monkeypatch.setattr(project, "LAYER", tmp_path / "layer")
    monkeypatch.setattr(software, "_installed", lambda name, _arguments, _report: tmp_path / name)
    chosen = software.choose("auto", ignore)
    assert chosen.folders == (tmp_path / "requirements", python, tmp_path / "runtime")
    assert chosen.opt == tmp_path / "layer"


def test_a_folder_without_torch_is_no_layer(tmp_path: Path) -> None:
    """A folder that is no layer is refused with the next step."""
    with pytest.raises(EmulatorError, match=r"not a torch layer.*Next: make layer"):
        software.choose(str(tmp_path), ignore)


@pytest.mark.parametrize(
    ("environment", "command"), [(".venv", "make layer"), (".venv-python3.13", "make layer PYTHON=python3.13")]
)
def test_a_layer_of_another_python_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, command: str
) -> None:
    """A layer whose compiled modules are for another Python is told before anything is started, with how to build one."""
    (tmp_path / "python" / "torch").mkdir(parents=True)
    (tmp_path / "python" / "torch" / "_C.cpython-27-x86_64-linux-gnu.so").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / environment))
    with pytest.raises(EmulatorError, match=rf"cpython-27.*this Python loads.*\({command}\)"):
        software.choose(str(tmp_path), ignore)


def test_failed_installations_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip fails, its reason is told and no half-made folder stays behind."""
    monkeypatch.setattr(project, "BUILD", tmp_path)
    arguments = ["--no-index", "--find-links", str(tmp_path), "lambda-torch-no-such-package"]
    with pytest.raises(EmulatorError, match="lambda-torch-no-such-package"):
        software._installed("runtime", arguments, ignore)
    assert list((tmp_path / "emulator").iterdir()) == []
