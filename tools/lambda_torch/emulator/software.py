"""Which interpreter, which torch and which packages the function gets.

On Lambda the function finds its own requirements in the task root, torch in a layer below /opt, and boto3 in the
runtime. Here:

    stock   everything comes from the site-packages of this command
    layer   torch and NumPy come only from the folder of a layer; the function's requirements and the runtime's packages
            come from two folders that pip fills once
"""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import EmulatorError

FUNCTION_REQUIREMENTS = project.SRC / "requirements.txt"
PINS = project.ROOT / "requirements" / "dev.txt"
RUNTIME_PACKAGES = ("awslambdaric", "boto3")  # AWS's Python runtime brings these, and the function may use them

Report = Callable[[str], None]


@dataclass(frozen=True)
class Software:
    """What the function's interpreter can import beside the function's code.

    Attributes:
        label: names the torch, for messages.
        folders: the folders after the task root on `sys.path`, in order.
        opt: the folder of the layer, which Lambda mounts at /opt. None without a layer.
    """

    label: str
    folders: tuple[Path, ...]
    opt: Path | None = None

    def after(self, packages: Path) -> "Software":
        """The same, with a folder of packages before all others."""
        return replace(self, folders=(packages, *self.folders))


def interpreter() -> str:
    """The Python that this environment was made from. With `-I -S` it does not see the packages of the environment."""
    return getattr(sys, "_base_executable", None) or sys.executable


def stock() -> Software:
    """The packages of this command."""
    paths = sysconfig.get_paths()
    folders = tuple(Path(folder) for folder in dict.fromkeys((paths["purelib"], paths["platlib"])))
    return Software(f"stock PyTorch, from {folders[0]}", folders)


def with_layer(layer: Path, report: Report) -> Software:
    """torch from the folder of a layer (the content of `/opt` on Lambda, so it contains `python/`).

    Raises:
        EmulatorError: the folder is not a layer, it was built for another Python, or pip cannot install the other
            packages.
    """
    layer = layer.resolve()
    site = layer / "python" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    places = [folder for folder in (site, layer / "python") if folder.is_dir()]
    if not any((folder / "torch").is_dir() for folder in places):
        raise EmulatorError(
            f"{layer} is not a torch layer: it has no python/torch. Next: make layer, or use --layer stock (LAYER=stock)."
        )
    for folder in places:
        _check_python(folder)
    function = _installed("requirements", ["--no-deps", "--requirement", str(FUNCTION_REQUIREMENTS)], report)
    runtime = _installed("runtime", ["--constraint", str(PINS), *RUNTIME_PACKAGES], report)
    return Software(f"the layer in {layer}", (function, *places, runtime), layer)


def choose(layer: str, report: Report) -> Software:
    """The software for a value of `--layer`: `stock`, the folder of a layer, or `auto` (the built layer, or else stock)."""
    if layer == "stock":
        return stock()
    if layer == "auto":
        return with_layer(found, report) if (found := project.layer()) is not None else stock()
    if layer == "layer":
        return with_layer(project.LAYER, report)
    return with_layer(Path(layer), report)


def _check_python(folder: Path) -> None:
    """Check the Python version, which is in the names of a layer's compiled modules."""
    wanted = sysconfig.get_config_var("EXT_SUFFIX")
    modules = sorted((folder / "torch").glob("_C.*.so"))
    if modules and not any(module.name.endswith(wanted) for module in modules):
        raise EmulatorError(
            f"The layer in {folder.parent} has {modules[0].name}, but this Python loads *{wanted}. "
            f"Next: build the layer with this Python ({make_command('layer')}), or use --layer stock (LAYER=stock)."
        )


def make_command(target: str) -> str:
    """The `make` command that runs a target with this Python. Each Python but python3 has an environment `.venv-NAME`."""
    name = Path(sys.prefix).name
    return f"make {target}" + (f" PYTHON={name.removeprefix('.venv-')}" if name.startswith(".venv-") else "")


def _installed(name: str, arguments: list[str], report: Report) -> Path:
    """A folder that `pip install --target` filled, kept below build/ under the hash of all that it depends on."""
    pins = FUNCTION_REQUIREMENTS.read_bytes() + PINS.read_bytes()
    key = hashlib.sha256(repr((sys.version, platform.machine(), arguments)).encode() + pins).hexdigest()[:16]
    folder = project.BUILD / "emulator" / f"{name}-{key}"
    if folder.is_dir():
        return folder
    report(f"Installing the {'runtime' if name == 'runtime' else 'function'}'s packages (once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
                *("--target", str(scratch), *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmulatorError(
                f"pip could not install the packages of the function's {name}: {done.stderr.strip()}\n"
                "Next: check the network, or use --layer stock (LAYER=stock), which needs none."
            )
        # Another run may have made the same folder in the meantime. A complete folder is never replaced.
        if not folder.is_dir():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


@functools.cache
def emulator_binary() -> Path:
    """AWS's Runtime Interface Emulator, which is part of the package aws-sam-cli.

    Raises:
        EmulatorError: this is not Linux, or the package is not installed.
    """
    from importlib.util import find_spec

    architecture = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorError(
            f"Lambda's emulator runs on Linux on x86_64 or arm64, and this is {platform.platform()}. "
            "Next: use Linux (WSL, a virtual machine), or `sam local start-api` with Docker."
        )
    package = find_spec("samcli")
    for folder in package.submodule_search_locations or () if package else ():
        binary = Path(folder) / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
        if os.access(binary, os.X_OK):
            return binary
    raise EmulatorError(
        f"Lambda's emulator is not installed. It is part of the package aws-sam-cli. Next: {project.install_hint('serve')}"
    )
