"""The Python version to build for. This module alone decides it.

It is the template's runtime if this machine's pip finds a wheel of torch for it. A machine without access to PyTorch's
index may have a wheel for its own Python only. Then it is that Python, and a copy of the template names it.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import UnknownRuntimeError

VARIABLE = "LAMBDA_TORCH_RUNTIME"
REQUIREMENTS = project.LAYER_SOURCE / "requirements.txt"
# The index of the "+cpu" builds, for a pip whose configuration names no mirror of it.
INDEX = "https://download.pytorch.org/whl/cpu"
_SECONDS = 120


@dataclass(frozen=True)
class PythonRuntime:
    """A Lambda runtime.

    >>> PythonRuntime("python3.13").version
    '3.13'
    """

    name: str

    @property
    def version(self) -> str:
        """Python's version, "3.13"."""
        return self.name.removeprefix("python")


def of_template(template: Path = project.TEMPLATE) -> PythonRuntime:
    """The runtime that the template names. Raises `UnknownRuntimeError` if it does not name exactly one."""
    named = set(re.findall(r"\bpython3\.\d+\b", template.read_text()))
    if len(named) != 1:
        raise UnknownRuntimeError(
            f"{template} names {' and '.join(sorted(named)) or 'no Python runtime'}. "
            "Next: name the same one in the functions' Runtime and the layer's CompatibleRuntimes."
        )
    return PythonRuntime(named.pop())


def choose(say: Callable[[str], None], template: Path = project.TEMPLATE) -> PythonRuntime:
    """The runtime to build for on this machine. LAMBDA_TORCH_RUNTIME=python3.12 sets it, and pip is not asked.

    Raises:
        UnknownRuntimeError: pip finds no wheel of torch for any runtime. The message has pip's own words.
    """
    wanted = of_template(template)
    asked = os.environ.get(VARIABLE, "")
    if asked:
        if not re.fullmatch(r"python3\.\d+", asked):
            raise UnknownRuntimeError(f"{VARIABLE}={asked} is not a runtime. Next: give one such as {wanted.name}.")
        return PythonRuntime(asked)
    own = PythonRuntime(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    said = ""
    for candidate in dict.fromkeys((wanted, own)):
        has, said = _has_wheel(candidate)
        if has:
            if candidate != wanted:
                say(f"pip finds no wheel of torch for {wanted.name} here: building for {candidate.name} instead")
            return candidate
    raise UnknownRuntimeError(
        f"pip finds no wheel of torch for {wanted.name} or {own.name}:\n{said}\nNext: check the network and pip's index."
    )


def template_for(runtime: PythonRuntime, template: Path = project.TEMPLATE) -> Path:
    """A template for this runtime: the project's own, or a copy below build/ whose paths start at the project's folder."""
    named = of_template(template)
    if named == runtime:
        return template
    copy = project.BUILD / "sam" / f"template-{runtime.name}.yaml"
    copy.parent.mkdir(parents=True, exist_ok=True)
    text = template.read_text().replace(named.name, runtime.name)
    if not copy.exists() or copy.read_text() != text:
        copy.write_text(text)
    return copy


def _has_wheel(runtime: PythonRuntime) -> tuple[bool, str]:
    """Whether pip could install torch for this runtime, and its message if it could not."""
    torch = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch=="))
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
        command += ["--no-deps", "--only-binary=:all:", "--ignore-installed", "--target", target]
        command += ["--platform", "manylinux_2_28_x86_64", "--python-version", runtime.version, torch.strip()]
        for options in ([], ["--extra-index-url", INDEX, "--retries", "0", "--timeout", "10"]):
            try:
                done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                return False, f"no answer within {_SECONDS} s"
            if done.returncode == 0:
                return True, ""
    return False, done.stderr.strip()[-1000:]
