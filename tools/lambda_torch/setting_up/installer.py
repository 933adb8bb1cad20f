"""Installs packages into a virtual environment: with uv where it can be had, else with pip.

uv does in seconds what takes pip a minute (`python -m benchmarks.first_minute`). It does not read pip's configuration,
so it gets pip's indexes, folders of wheels, constraints and certificates from here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lambda_torch.setting_up import pip_configuration

# PyPI has no CPU build of torch for Linux. PyTorch's own index has; a mirror or a folder of wheels in pip's
# configuration comes first.
NO_TORCH = re.compile(r"\btorch\b")

# A setting of pip, and the option of uv that means the same. Each value of a setting gets the option again.
UV_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}

Say = Callable[[str], None]
Done = subprocess.CompletedProcess[str]
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


class InstallError(Exception):
    """The packages cannot be installed. The message has what the installer said, and the next step."""


def uv_of(python: Path) -> str | None:
    """The program uv: that of this environment, or else the user's own. None if there is none."""
    beside = shutil.which("uv", path=str(python.parent))
    return beside or shutil.which("uv")


def install_uv(python: Path, pin: str) -> str | None:
    """Install uv into the environment with pip, if there is none. None if that fails: pip then does all the work."""
    if (found := uv_of(python)) is None:
        _run(_pip(python, [pin]))
        found = uv_of(python)
    return found


def install(python: Path, uv: str | None, arguments: Sequence[str], torch_index: str, note: Say) -> None:
    """Install what the arguments name, which are the same for pip and uv, such as `--requirement FILE`.

    Args:
        python: the interpreter of the virtual environment.
        uv: the program uv; None to use pip.
        torch_index: the index for torch's CPU build, if pip's own configuration finds none.
        note: gets a line when pip takes over, and why.

    Raises:
        InstallError: neither can install them.
    """
    if uv is not None:
        settings = pip_configuration.settings(python)
        done = _try(
            lambda more: _run(uv_command(uv, python, settings, more), _uv_variables(settings)), arguments, torch_index
        )
        if not done.returncode:
            return
        note(f"uv could not install them, so pip does. uv said: {_last_line(done.stderr)}")
    done = _try(lambda more: _run(_pip(python, more)), arguments, torch_index)
    if not done.returncode:
        return
    raise InstallError(
        f"pip could not install the packages:\n{done.stderr.strip()}\n"
        "Next: check the network and pip's configuration (pip config list), and run the command again."
    )


def uv_command(uv: str, python: Path, settings: dict[str, list[str]], arguments: Sequence[str]) -> list[str]:
    """The command line with which uv installs what pip with these settings would."""
    # pip takes the best version of all indexes. uv by default takes the first index that has the package.
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--index-strategy", "unsafe-best-match"]
    for name, option in UV_OPTIONS.items():
        for value in settings.get(name, []):
            command += [option, value]
    if settings.get("no-index", ["0"])[0].lower() in ("1", "true", "yes", "on"):
        command.append("--no-index")
    return [*command, *arguments]


def _pip(python: Path, arguments: Sequence[str]) -> list[str]:
    return [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]


def _uv_variables(settings: dict[str, list[str]]) -> dict[str, str]:
    """Pip's settings that uv takes from the environment. What the user has set there stays."""
    named = {"SSL_CERT_FILE": settings.get("cert"), "UV_HTTP_TIMEOUT": settings.get("default-timeout")}
    return {name: values[0] for name, values in named.items() if values and name not in os.environ}


def _try(run: Callable[[Sequence[str]], Done], arguments: Sequence[str], torch_index: str) -> Done:
    """Run an installer; if it finds no torch, run it again with the index of the CPU builds."""
    done = run(arguments)
    if done.returncode and NO_TORCH.search(done.stderr):
        again = run([*arguments, "--extra-index-url", torch_index])
        return again if not again.returncode else done
    return done


def _run(command: list[str], variables: Mapping[str, str] = _NO_VARIABLES) -> Done:
    environment = {**os.environ, **variables}
    try:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return Done(command, 1, "", f"{command[0]}: {error.strerror or error}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
