"""The Python version and the processors to build for. This module alone decides them.

The processors are those of the stack's parameter Architecture. The Python is the template's runtime if this machine's pip
finds a wheel of torch for it. A machine without access to PyTorch's index may have a wheel for its own Python only. Then it is
that Python, and a copy of the template names it.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
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
# What pip calls the processors that Lambda has, in the tags of wheels.
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}


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


def architecture_of(template: Path = project.TEMPLATE) -> str:
    """The processors that `sam build` builds for, x86_64 or arm64.

    It is the stack's parameter Architecture: as samconfig.toml beside the template sets it for `sam build`, or its default.

    Raises:
        UnknownRuntimeError: it is set to what Lambda does not have.
    """
    default = re.search(r"(?m)^  Architecture:\n(?:    .*\n)*?    Default: (\S+)$", template.read_text())
    set_to = _overridden(template.parent / "samconfig.toml")
    named = set_to or (default[1] if default else "x86_64")
    if named not in MACHINES:
        raise UnknownRuntimeError(
            f"Architecture={named} is not one of {', '.join(MACHINES)}. Next: correct it in samconfig.toml."
        )
    return named


def _overridden(configuration: Path) -> str | None:
    """What the default environment of samconfig.toml gives as Architecture to `sam build`; None if it gives nothing."""
    if not configuration.is_file():
        return None
    try:
        tables = tomllib.loads(configuration.read_text()).get("default", {})
    except tomllib.TOMLDecodeError as error:
        raise UnknownRuntimeError(f"{configuration} is not TOML: {error}. Next: correct it.") from error
    for command in ("build", "global"):
        given = tables.get(command, {}).get("parameters", {}).get("parameter_overrides", "")
        text = given if isinstance(given, str) else " ".join(map(str, given))
        if found := re.search(r"\bArchitecture=[\"']?([^\s\"']+)", text):
            return found[1]
    return None


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
    machine = MACHINES[architecture_of(template)]
    own = PythonRuntime(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    said = ""
    for candidate in dict.fromkeys((wanted, own)):
        has, said = _has_wheel(candidate, machine)
        if has:
            if candidate != wanted:
                say(f"pip finds no wheel of torch for {wanted.name} here: building for {candidate.name} instead")
            return candidate
    raise UnknownRuntimeError(
        f"pip finds no wheel of torch for {wanted.name} or {own.name} on {machine}:\n{said}\n"
        "Next: check the network and pip's index."
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


def _has_wheel(runtime: PythonRuntime, machine: str) -> tuple[bool, str]:
    """Whether pip could install torch for this runtime and these processors, and its message if it could not."""
    torch = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch=="))
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
        command += ["--no-deps", "--only-binary=:all:", "--ignore-installed", "--target", target]
        command += ["--platform", f"manylinux_2_28_{machine}", "--python-version", runtime.version, torch.strip()]
        for options in ([], ["--extra-index-url", INDEX, "--retries", "0", "--timeout", "10"]):
            try:
                done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                return False, f"no answer within {_SECONDS} s"
            if done.returncode == 0:
                return True, ""
    return False, done.stderr.strip()[-1000:]
