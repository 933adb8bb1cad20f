"""What macOS lacks, tried on Linux: no /proc, no compiled part of AWS's runtime client, another name of the system."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

from integration.emulator.conftest import wait_until
from lambda_torch.cli import COMMANDS
from lambda_torch.project import ROOT

# As Python calls macOS. Python's own modules for macOS are not here, so what they give is put in their place.
AS_MACOS = """
import sys, sysconfig, types
sysconfig.get_config_vars()
sys.platform = "darwin"
proxies = types.ModuleType("_scproxy")
proxies._get_proxy_settings = proxies._get_proxies = dict
sys.modules["_scproxy"] = proxies
from lambda_torch.cli import main
main()
"""
REQUEST = b'{"category":"Russian","start_letters":"RUS"}'


def sandbox() -> list[str]:
    """The command that hides /proc and the compiled part of AWS's runtime client."""
    compiled = Path(sysconfig.get_paths()["purelib"]).glob("runtime_client.*.so")
    hidden = [word for path in compiled for word in ("--ro-bind", "/dev/null", str(path))]
    return ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/proc", *hidden]


def usable() -> bool:
    """Whether this machine can make such a sandbox."""
    if shutil.which("bwrap") is None:
        return False
    return subprocess.run([*sandbox(), "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not usable(), reason="bubblewrap cannot make a sandbox here")


def command(*words: str) -> list[str]:
    """`lambda-torch` with these words, as on a system without Linux's own."""
    return [*sandbox(), sys.executable, "-c", AS_MACOS, *words]


def test_serve_answers_and_ends_without_linux(tmp_path: Path) -> None:
    """The sample model is served: the local Runtime API and AWS's runtime client need nothing of Linux."""
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command("serve", "--port", "0", "--layer", "stock", "--concurrency", "1"),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as output:
        try:
            line = output.readline()
            assert line, log.read_text()
            with urllib.request.urlopen(line.split()[-1], REQUEST, timeout=60) as answer:
                assert answer.status == 200
                assert answer.read().startswith(b'["R')
        finally:
            # To the whole group: bubblewrap itself passes no signal on.
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
    assert wait_until(lambda: "Stopped." in log.read_text())


def test_weights_are_converted_and_a_model_is_trained_without_linux(tmp_path: Path) -> None:
    """`train` writes a release there too."""
    names = tmp_path / "names"
    names.mkdir()
    for category in ("Greek", "Polish"):
        (names / f"{category}.txt").write_text("\n".join(f"{letter}an{category}a" for letter in "ABCDEFGHIKLMNOPRST"))
    words = ("train", "--data", str(names), "--output", str(tmp_path / "release"), "--batches", "40")
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "release" / "weights.safetensors").is_file()


def test_every_command_can_be_asked_for_help_without_linux() -> None:
    """No module of a command needs Linux when it is imported."""
    asked = "; ".join(f"get({name!r})" for name in COMMANDS)
    script = AS_MACOS.replace("main()", f"get = lambda name: main.get_command(None, name).name; {asked}; print('all')")
    done = subprocess.run(
        [*sandbox(), sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "all", done.stderr


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        (("tune", "--sizes", "1024"), "a test box needs Linux."),
        (("serve", "--runtime", "shipped", "--port", "0"), "runs on Linux"),
    ],
)
def test_what_needs_linux_says_so(words: tuple[str, ...], needs: str) -> None:
    """A command that cannot work there ends with the reason and the next step, without a traceback."""
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert needs in done.stderr
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
