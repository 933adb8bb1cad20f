"""Fetches a wheel of torch alone, as pip finds it, so that it can be examined."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from builder.errors import RequirementsError
from builder.stage import install, policy

# Lambda's runtimes have glibc 2.34; torch's wheels ask for less.
_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux2014")


def fetch(version: str, python: str, machine: str, folder: Path) -> Path:
    """The CPU wheel of torch; pip's own configuration is asked first, then PyTorch's index.

    Args:
        version: `2.15.0`; empty for the newest.
        python: The Python that it is for, `3.13`.
        machine: `x86_64` or `aarch64`.
        folder: Where it is kept.

    Raises:
        RequirementsError: pip finds none; the message has pip's words.
    """
    tag = f"cp{python.replace('.', '')}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--quiet",
        "--no-deps",
    ]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, "--abi", tag]
    for platform in _PLATFORMS:
        command += ["--platform", f"{platform}_{machine}"]
    wanted = f"torch=={version}+cpu" if version else "torch"
    # The newest of pip's own index is a CUDA build, which is gigabytes.
    attempts: list[list[str]] = [*([[]] if version else []), ["--index-url", policy.CPU_INDEX]]
    folder.mkdir(parents=True, exist_ok=True)
    said = ""
    for options in attempts:
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder) as scratch:
            done = subprocess.run(
                [*command, *options, "--dest", scratch, wanted],
                # A machine's own constraints on torch are about what it installs; this wheel is only read.
                env={**os.environ, "PIP_CONSTRAINT": os.devnull},
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stderr
            for found in Path(scratch).glob("torch-*.whl"):
                return found.rename(folder / found.name)
    reached = ", and an index could not be reached" if install.UNREACHED.search(said) else ""
    raise RequirementsError(
        f"pip finds no CPU wheel of torch{f' {version}' if version else ''} for Python {python} on {machine}{reached}:"
        f"{install.quoted(said)}",
        "check the version and the network; or name the file of a wheel: lambda-torch layer doctor WHEEL",
    )
