"""Installs packages into a virtual environment: with uv where it can be had, else with pip.

uv does in seconds what takes pip a minute (`python -m benchmarks.first_minute`). It does not read pip's configuration,
so it gets pip's indexes, folders of wheels, constraints and certificates from here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

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
        note: is told that pip takes over, and why.

    Raises:
        InstallError: neither can install them.
    """
    ways = [_pip]
    if uv is not None:
        ways.insert(0, lambda python, more: uv_command(uv, python, pip_configuration.settings(python), more))
    for number, way in enumerate(ways):
        done = _run(way(python, arguments))
        if done.returncode and NO_TORCH.search(done.stderr):
            more = [*arguments, "--extra-index-url", torch_index]
            done = _run(way(python, more))
        if not done.returncode:
            return
        if number + 1 < len(ways):
            note(f"uv could not install them, so pip does. uv said: {_last_line(done.stderr)}")
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


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    environment = dict(os.environ)
    if Path(command[0]).stem == "uv":
        settings = pip_configuration.settings(Path(command[command.index("--python") + 1]))
        for name, variable in (("cert", "SSL_CERT_FILE"), ("timeout", "UV_HTTP_TIMEOUT")):
            if values := settings.get(name) or settings.get(f"default-{name}"):
                environment.setdefault(variable, values[0])
    try:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error.strerror or error}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
