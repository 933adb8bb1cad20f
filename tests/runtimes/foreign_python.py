"""A CPython for other processors, unpacked from Debian's packages: what `runtimes.emulated` hands to an emulator.

    python -m runtimes.foreign_python 3.13 aarch64 --folder FOLDER

Nothing is installed: the packages are only unpacked into the folder, with the C library that they need (0.3 GB). That needs
mmdebstrap, and Debian's mirror.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from runtimes.cpu_wheel import print_path
from runtimes.emulated import EmulationError, machine_of

# Debian's releases by the Python that each has.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
ARCHITECTURES = {"aarch64": "arm64"}
# The interpreter with its standard library; what its modules written in C need; what torch's libraries need beside their own.
PACKAGES = (
    "libpython{version}-stdlib", "python{version}", "python{version}-minimal",
    "libbz2-1.0", "libc6", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libsqlite3-0", "libssl3t64", "libuuid1", "zlib1g",
    "libgcc-s1", "libgomp1", "libstdc++6",
    "base-files",  # the links of the root to /usr
)  # fmt: skip
OLDER_NAMES = {"bookworm": {"libssl3t64": "libssl3"}}


def have(version: str, machine: str, folder: Path) -> Path:
    """The interpreter in the folder; it is unpacked there if it is not yet.

    Args:
        version: `3.13`.
        machine: The processors, as `uname -m` says.
        folder: What becomes the root of its system.

    Returns:
        The interpreter's path.

    Raises:
        EmulationError: Debian has none, a tool is missing, or this machine does not run it.
    """
    interpreter = folder / "usr" / "bin" / f"python{version}"
    if not interpreter.exists():
        _unpack(version, machine, folder)
    found = machine_of(interpreter, f"cpython-{version.replace('.', '')}")
    if found != machine:
        raise EmulationError(
            f"{interpreter} is for {found}.\nNext: remove {folder}, or name an interpreter for {machine}"
        )
    return interpreter


def _unpack(version: str, machine: str, folder: Path) -> None:
    suite, architecture = SUITES.get(version), ARCHITECTURES.get(machine)
    if suite is None or architecture is None:
        raise EmulationError(
            f"No Debian release is known that has CPython {version} for {machine}.\n"
            f"Next: choose of {', '.join(SUITES)} and {', '.join(ARCHITECTURES)}, or name an interpreter"
        )
    if shutil.which("mmdebstrap") is None:
        raise EmulationError(
            "mmdebstrap is missing, which unpacks Debian's packages.\nNext: apt-get install mmdebstrap"
        )
    older = OLDER_NAMES.get(suite, {})
    packages = [older.get(name, name).format(version=version) for name in PACKAGES]
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={architecture}"]
    done = subprocess.run(
        [*command, f"--include={','.join(packages)}", suite, str(partial)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise EmulationError(f"mmdebstrap failed:\n{done.stderr[-2000:]}\nNext: see whether Debian's mirror answers")
    # The emulator looks for each path in this folder first. Programs must see this machine's own folders, not empty ones.
    for empty in partial.iterdir():
        with contextlib.suppress(OSError):
            empty.rmdir()
    partial.rename(folder)


def main(argv: list[str] | None = None) -> int:
    """Have the interpreter, and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.foreign_python", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("version", help="the Python's version, for example 3.13")
    parser.add_argument("machine", choices=sorted(ARCHITECTURES), help="the processors")
    parser.add_argument("--folder", type=Path, required=True, help="the folder to unpack it into")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    return print_path(lambda: have(arguments.version, arguments.machine, folder), EmulationError)


if __name__ == "__main__":
    sys.exit(main())
