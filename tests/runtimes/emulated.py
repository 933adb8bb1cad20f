"""Runs the builder for other processors than this machine's: the builder here, and what it runs of the layer in an emulator.

    python -m runtimes.emulated --interpreter FOLDER/usr/bin/python3.13 --wheels FOLDER -- --output LAYER ...

The words after `--` are the builder's own. What the builder computes does not depend on the processor, so it runs at this
machine's speed: it unpacks, strips, compiles modules, splits and compresses. What it starts to see torch at work (the recording,
the search, the verification) is the given interpreter, which the kernel hands to an emulator (Debian: qemu-user-static, and an
entry for it in binfmt_misc). It must have the version of the Python that runs this. `runtimes.foreign_python` makes one of
Debian's packages.

Bytecode does not depend on the processor either. So this machine compiles the modules of a tree before the emulator first imports
from it. To compile torch in the emulator would take longer than to import it.

A recording takes long in an emulator. With `--known PROFILE`, a profile for the same versions on other processors, only what the
workload touches is recorded. Which modules wait, and which only the checks import, is the same on all processors: torch's Python
files are. Where they differ all the same, the verification fails.

What runs in the emulator sees the files in /proc and /sys by which programs know a machine of Graviton2's kind. (With this
machine's own files, torch's cpuinfo library crashes.) That takes root. An emulator is some twenty times slower than a processor,
so no time limit holds.
"""

import argparse
import contextlib
import ctypes
import importlib.machinery
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

ENTER_EMULATOR = (
    "apt-get install qemu-user-static binfmt-support, which enters it in binfmt_misc (in a container: mount -t binfmt_misc "
    "binfmt_misc /proc/sys/fs/binfmt_misc && update-binfmts --enable)"
)
TOOLS = ("gcc", "strip")
# What torch's and NumPy's wheels and their requirements name; pip takes a list of platforms as it is.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_17", "manylinux2014")
# Lambda's processors for arm64: Graviton2 is made of Neoverse N1. This is what Linux shows of one.
EMULATED_CPU = {"QEMU_CPU": "neoverse-n1"}
CPU_INFORMATION = """\
processor\t: {number}
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
CLONE_NEWNS = 0x20000  # unshare(2)
_run = subprocess.run


class EmulationError(Exception):
    """The emulator cannot be used; the message says why and what to do."""


def machine_of(interpreter: Path, wanted: str | None = sys.implementation.cache_tag) -> str:
    """The processors that the interpreter is for.

    Args:
        interpreter: The program.
        wanted: The tag of the version that it must have, `cpython-313` (default: this Python's).

    Raises:
        EmulationError: it does not run here, or is of another version.
    """
    program = "import platform, sys; print(platform.machine(), sys.implementation.cache_tag)"
    variables = {**os.environ, **libraries_of(interpreter)}
    try:
        done = _run([interpreter, "-c", program], env=variables, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EmulationError(f"{interpreter} does not run here: {error}\nNext: {ENTER_EMULATOR}") from error
    if done.returncode:
        raise EmulationError(f"{interpreter} ends with status {done.returncode}: {done.stderr}\nNext: see why")
    machine, tag = done.stdout.split()
    if tag != wanted:
        raise EmulationError(f"{interpreter} is {tag}, and {wanted} is needed.\nNext: use the same version for both")
    return str(machine)


def libraries_of(interpreter: Path) -> dict[str, str]:
    """The environment variables by which an emulated interpreter finds its own dynamic loader and C library.

    An interpreter that was unpacked with its system (`ROOT/usr/bin/python3.13`) has both below ROOT. A script needs none.
    """
    root = interpreter.resolve().parents[2]
    loader = _loader_of(interpreter)
    if loader is None:
        return {}
    inside = root / loader.relative_to("/")
    if inside.exists():
        return {"QEMU_LD_PREFIX": str(root), "LD_LIBRARY_PATH": str(inside.resolve().parent)}
    return {"LD_LIBRARY_PATH": str(loader.resolve().parent)}


def _loader_of(interpreter: Path) -> Path | None:
    """The dynamic loader that an interpreter names, beside which its C library lies; None for what is no ELF program."""
    with contextlib.suppress(OSError, ELFError), interpreter.resolve().open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_INTERP"):
            assert isinstance(segment, InterpSegment)
            return Path(segment.get_interp_name())
    return None


def suffixes_of(interpreter: Path) -> list[str]:
    """The ends of the file names by which the interpreter knows extension modules: they name the processors."""
    program = "import importlib.machinery; print(*importlib.machinery.EXTENSION_SUFFIXES)"
    variables = {**os.environ, **libraries_of(interpreter)}
    done = _run([interpreter, "-c", program], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.split()


@contextlib.contextmanager
def cross_tools(machine: str) -> Iterator[None]:
    """The tools for other processors under their plain names, first on PATH.

    Raises:
        EmulationError: one is missing.
    """
    with tempfile.TemporaryDirectory(prefix="cross-") as folder:
        for name in TOOLS:
            found = shutil.which(f"{machine}-linux-gnu-{name}")
            if found is None:
                raise EmulationError(
                    f"there is no {name} for {machine}.\nNext: apt-get install gcc-{machine}-linux-gnu"
                )
            Path(folder, name).symlink_to(found)
            if name == "gcc":
                Path(folder, "cc").symlink_to(found)
        with mock.patch.dict(os.environ, {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}):
            yield


def pip_options(machine: str, wheels: Path) -> list[str]:
    """pip's options by which it takes wheels for other processors. It reads markers as for this machine, so no requirements."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    options = ["--no-deps", "--implementation", "cp", "--python-version", version, "--find-links", str(wheels)]
    return [*options, *(part for each in PLATFORMS for part in ("--platform", f"{each}_{machine}"))]


class Bytecode:
    """Compiles what the emulator is about to import. A context manager, which removes it at the end.

    Args:
        native: The Python that compiles.
        interpreter: The emulated one, whose standard library is compiled, too.
    """

    def __init__(self, native: str, interpreter: Path) -> None:
        self._native = native
        self._library = interpreter.resolve().parents[1] / "lib" / interpreter.resolve().name
        self._compiled: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Bytecode":
        self._folder = tempfile.TemporaryDirectory(prefix="emulated-bytecode-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def of(self, variables: Mapping[str, str]) -> str:
        """The folder of bytecode for a process with these environment variables (PYTHONPYCACHEPREFIX).

        The folders on its PYTHONPATH, and the standard library, are compiled the first time.
        """
        prefix = variables.get("PYTHONPYCACHEPREFIX", self._folder.name)
        trees = [folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep)[:1] if folder]
        with self._lock:
            for tree in [str(self._library), *trees]:
                if (tree, prefix) not in self._compiled:
                    self._compiled.add((tree, prefix))
                    # Some of the standard library's tests are no Python on purpose, so the status says nothing.
                    _run(
                        [self._native, "-m", "compileall", "-q", "-q", "-j", str(len(os.sched_getaffinity(0))), tree],
                        env={**os.environ, "PYTHONPYCACHEPREFIX": prefix},
                        stdout=subprocess.DEVNULL,
                        check=False,
                    )
        return prefix


def enter_sandbox(folder: Path) -> None:
    """Show other processors to this process and its children: in a mount namespace of their own.

    Raises:
        EmulationError: the kernel does not allow it.
    """
    information = folder / "cpuinfo"
    count = len(os.sched_getaffinity(0))
    information.write_text("".join(CPU_INFORMATION.format(number=number) for number in range(count)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        reason = os.strerror(ctypes.get_errno())
        raise EmulationError(f"this process gets no mount namespace: {reason}.\nNext: run this as root")
    _run(["mount", "--make-rprivate", "/"], check=True)
    _run(["mount", "-t", "tmpfs", "tmpfs", "/sys"], check=True)
    _run(["mount", "--bind", str(information), "/proc/cpuinfo"], check=True)
    processors = Path("/sys/devices/system/cpu")
    processors.mkdir(parents=True)
    for name in ("possible", "present"):
        (processors / name).write_text(f"0-{count - 1}\n")


@contextlib.contextmanager
def emulated(interpreter: Path, machine: str, wheels: Path) -> Iterator[None]:
    """The builder's modules see the other machine, and start the other interpreter for all but pip and the compilation."""
    native = sys.executable
    of_emulator = {**EMULATED_CPU, **libraries_of(interpreter)}
    bytecode = Bytecode(native, interpreter)

    def start(command: Sequence[object], *arguments: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        parts = [str(part) for part in command]
        options.pop("timeout", None)
        if parts[0] == native and "pip" not in parts[:3] and "builder.python.bytecode" not in parts:
            parts[0] = str(interpreter)
            variables = {**(options.get("env") or os.environ), **of_emulator}
            options["env"] = {**variables, "PYTHONPYCACHEPREFIX": bytecode.of(variables)}
            if "--jobs" in parts:  # of the checks: one at a time would take the longest of all steps
                parts[parts.index("--jobs") + 1] = str(len(os.sched_getaffinity(0)))
        elif parts[1:3] == ["-m", "pip"] and "install" in parts:
            parts += pip_options(machine, wheels)
        return _run(parts, *arguments, **options)

    with (
        bytecode,
        cross_tools(machine),
        mock.patch.object(platform, "machine", return_value=machine),
        # The layer's finder gets a table of extension modules, which the builder makes by these.
        mock.patch.object(importlib.machinery, "EXTENSION_SUFFIXES", suffixes_of(interpreter)),
        mock.patch.object(subprocess, "run", start),
    ):
        yield


@contextlib.contextmanager
def knowing(path: Path) -> Iterator[None]:
    """A recording takes from this profile which modules wait, and which only the checks import."""
    from builder.profile import profiles, record

    known = profiles.Profile.load(path)
    run_in_tree = record.RecordingTree.run

    def run(tree: Any, command: Sequence[str], *arguments: Any, **options: Any) -> Any:
        if command[1] == "builder.cold_checks":
            return record.NOTHING._replace(modules=tuple(sorted(known.warm)))
        return run_in_tree(tree, command, *arguments, **options)

    with (
        mock.patch.object(record.RecordingTree, "run", run),
        mock.patch.object(record, "search", return_value=known.held),
    ):
        yield


def main(argv: list[str] | None = None) -> int:
    """Build, and return the builder's own status."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.emulated", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--interpreter", type=Path, required=True, help="a CPython for the other processors")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with a CPU wheel of torch for them")
    parser.add_argument(
        "--known", type=Path, help="profile for other processors: record only what the workload touches"
    )
    parser.add_argument("builder", nargs=argparse.REMAINDER, help="the builder's own options, after --")
    arguments = parser.parse_args(argv)
    try:
        machine = machine_of(arguments.interpreter)
        with (
            tempfile.TemporaryDirectory(prefix="emulated-") as folder,
            emulated(arguments.interpreter, machine, arguments.wheels.resolve()),
        ):
            enter_sandbox(Path(folder))
            from builder.__main__ import main as build  # its modules ask for the machine when they are imported

            with knowing(arguments.known) if arguments.known else contextlib.nullcontext():
                return build(arguments.builder[1:])
    except EmulationError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
