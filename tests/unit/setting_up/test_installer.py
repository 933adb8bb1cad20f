"""How the virtual environment is filled: uv as pip is configured, pip if uv cannot, and steps that show their time."""

import importlib.util
import io
import stat
import sys
from pathlib import Path

import pytest

from lambda_torch.setting_up import __main__ as setting_up
from lambda_torch.setting_up import installer
from lambda_torch.setting_up.steps import Steps


def program(path: Path, body: str) -> Path:
    """An executable script of sh."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python whose pip writes down its arguments; `no-pip` beside it makes it fail."""
    return program(
        tmp_path / "python",
        f'echo "$@" >> {tmp_path}/pip.log\n'
        f'if [ -e {tmp_path}/no-pip ] && [ "$4" = install ]; then echo "no network" >&2; exit 1; fi',
    )


def test_uv_gets_what_pip_is_configured_with() -> None:
    """Indexes, folders of wheels and constraints become options of uv, each value with an option of its own."""
    settings = {"find-links": ["/a", "/b"], "extra-index-url": ["https://x/simple"], "index-url": ["https://y/simple"]}
    line = installer.uv_command("uv", Path("python"), settings, ["--requirement", "f"])
    text = " ".join(line)
    assert "--find-links /a --find-links /b" in text
    assert "--default-index https://y/simple --index https://x/simple" in text
    assert line[-2:] == ["--requirement", "f"]
    assert "--no-index" not in line
    assert "--no-index" in installer.uv_command("uv", Path("python"), {"no-index": ["true"]}, [])


def test_pip_takes_over_where_uv_fails(python: Path, tmp_path: Path) -> None:
    """A uv that cannot install is no obstacle: pip gets the same arguments, and the reason is told."""
    uv = program(tmp_path / "uv", "echo 'a certificate is wrong' >&2; exit 2")
    notes: list[str] = []
    installer.install(python, str(uv), ["--requirement", "f.txt"], "https://torch.example", notes.append)
    assert notes == ["uv could not install them, so pip does. uv said: a certificate is wrong"]
    assert "install --quiet --requirement f.txt" in (tmp_path / "pip.log").read_text()


def test_torchs_own_index_is_asked_only_where_torch_is_not_found(python: Path, tmp_path: Path) -> None:
    """The first try uses the user's own indexes alone."""
    uv = program(
        tmp_path / "uv",
        f'echo "$@" >> {tmp_path}/uv.log\n'
        'case "$*" in *torch.example*) exit 0;; *) echo "no version of torch" >&2; exit 1;; esac',
    )
    installer.install(python, str(uv), ["--requirement", "f.txt"], "https://torch.example", lambda _: None)
    first, second = (tmp_path / "uv.log").read_text().splitlines()
    assert "torch.example" not in first
    assert second.endswith("--extra-index-url https://torch.example")


def test_what_cannot_be_installed_is_told_with_the_next_step(python: Path, tmp_path: Path) -> None:
    """Without uv and with a pip that fails, the message has pip's words."""
    (tmp_path / "no-pip").touch()
    with pytest.raises(installer.InstallError, match=r"no network\nNext: check the network"):
        installer.install(python, None, ["x"], "https://torch.example", lambda _: None)


def test_a_uv_that_is_no_program_is_no_obstacle(python: Path, tmp_path: Path) -> None:
    """A file that cannot be executed counts as a uv that fails."""
    installer.install(python, str(tmp_path / "nothing"), ["x"], "https://torch.example", lambda _: None)
    assert "install --quiet x" in (tmp_path / "pip.log").read_text()


def test_each_step_shows_its_time_and_a_failure() -> None:
    """One line for each step, with its number and seconds; a step that fails says so."""
    out = io.StringIO()
    steps = Steps(2, out)
    with steps.step("first"):
        pass
    with pytest.raises(ValueError, match="no"), steps.step("second"):
        raise ValueError("no")
    first, second = out.getvalue().splitlines()
    assert first.startswith("1/2 first")
    assert first.endswith(" s")
    assert "failed after" in second


def test_the_module_needs_the_standard_library_only() -> None:
    """It runs before anything is installed."""
    import subprocess

    from lambda_torch.project import ROOT

    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import lambda_torch.setting_up.__main__",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_python_that_cannot_make_environments_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python without its package for environments is refused with the name of that package, and nothing is left."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(installer.InstallError, match=r"no ensurepip\.\nNext: .* apt-get install python3\.\d+-venv"):
        setting_up.make(tmp_path / "venv", [], "https://torch.example", "make serve")
    assert not (tmp_path / "venv").exists()
