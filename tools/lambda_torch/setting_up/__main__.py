"""Makes a virtual environment with pinned packages and `lambda-torch`, step by step, with the time of each step.

    PYTHONPATH=tools python3 -m lambda_torch.setting_up --for "make serve" .venv requirements/serve.txt requirements/torch.txt

`make` calls it. If the environment exists, only what is missing is installed.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

from lambda_torch.setting_up import installer
from lambda_torch.setting_up.steps import Steps

ROOT = Path(__file__).resolve().parents[3]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

# What `make serve` imports, in two processes at the same time. Python keeps the bytecode. So the first start of the
# function does not compile it, nor does any start where PYTHONDONTWRITEBYTECODE is set.
COMPILED = (
    "import torch, numpy, safetensors.torch, pydantic",
    "import boto3, moto.server, moto.s3.urls, rich.progress, rich.table, click, aiohttp, httptools",
)


def main() -> None:
    """Read the arguments, and make the environment."""
    parser = argparse.ArgumentParser(prog="python -m lambda_torch.setting_up", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--for", dest="purpose", default="lambda-torch", help="the command that needs it, for the title"
    )
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="where torch's CPU build is, if pip finds none")
    parser.add_argument("folder", type=Path, help="the folder of the environment")
    parser.add_argument("requirements", type=Path, nargs="+", help="files with pinned packages")
    options = parser.parse_args()
    try:
        make(options.folder, options.requirements, options.torch_index, options.purpose)
    except installer.InstallError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")


def make(folder: Path, requirements: list[Path], torch_index: str, purpose: str) -> None:
    """Make or complete the environment in `folder`.

    Raises:
        InstallError: packages cannot be installed.
    """
    steps = Steps(4)
    steps.line(f"Setting up {folder} for {purpose}, once:")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    with steps.step(f"an environment of Python {sys.version_info[0]}.{sys.version_info[1]}"):
        if not python.exists():
            require_ensurepip()
            venv.create(folder, with_pip=True)
    lines = [line for file in requirements for line in pins(file)]
    with steps.step("uv, which installs packages quickly"):
        uv = installer.install_uv(python, next((line for line in lines if line.startswith("uv==")), "uv"))
    with steps.step(f"{len(lines)} packages; torch is the largest (about 190 MB)"):
        named = [option for file in requirements for option in ("--requirement", str(file))]
        installer.install(python, uv, named, torch_index, steps.note)
        own = ["--no-build-isolation", "--no-deps", "--editable", str(ROOT)]
        installer.install(python, uv, own, torch_index, steps.note)
    with steps.step("bytecode of torch"):
        compile_imported(python)
    steps.line(f"{folder} is ready after {steps.seconds:.0f} s.")


def require_ensurepip() -> None:
    """Check that this Python can put pip into an environment. Debian has that part in a package of its own.

    Raises:
        InstallError: it cannot.
    """
    if importlib.util.find_spec("ensurepip") is None:
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        raise installer.InstallError(
            f"{sys.executable} cannot make virtual environments: it has no ensurepip.\n"
            f"Next: install it (Debian: apt-get install {name}-venv), and run the command again."
        )


def pins(file: Path) -> list[str]:
    """The lines of a requirements file that name packages."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def compile_imported(python: Path) -> None:
    """Import what `COMPILED` names, so that Python keeps its bytecode. A failure shows later, where it is explained."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    running = [
        subprocess.Popen(
            [str(python), "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for code in COMPILED
    ]
    for process in running:
        process.wait()


if __name__ == "__main__":
    main()
