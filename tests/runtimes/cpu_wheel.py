"""A CPU wheel of torch for another Python, made from what PyPI carries.

    python -m runtimes.cpu_wheel 2.13.0 3.13 --base torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl --output FOLDER

PyTorch's own index has CPU wheels for every Python; PyPI has only CUDA wheels. Where that index cannot be reached, this program
makes a wheel that the builder takes like the real one. It is for tests alone: nobody should deploy it.

With `--base`, a CPU wheel of the same version for any Python, everything comes from the base but the two files that depend on the
Python: `torch/_C.*.so` and `torch/lib/libtorch_python.so`. They come from PyPI's wheel. Without `--base` everything comes from
PyPI's wheel but the CUDA libraries.

The libraries of a CUDA wheel miss symbols of the CUDA libraries. A stub library (`runtimes.stub`), made from a list of these
symbols, defines them. So `torch.cuda.device_count()` is 0.

A wheel for other processors (`--machine aarch64`) is made in the same way. It needs their compiler (Debian:
gcc-aarch64-linux-gnu).

Three differences from a real CPU wheel remain. `torch._C` carries the CUDA bindings. Its libraries went through patchelf. The
hash of the wheel is another.
"""

import argparse
import base64
import csv
import hashlib
import io
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from runtimes import stub

PLATFORM = "manylinux_2_28"
# The only files of a torch wheel that depend on the Python.
OF_PYTHON = re.compile(r"torch/_C\.[^/]*\.so|torch/lib/libtorch_python\.so")
CUDA_LIBRARY = re.compile(r"torch/lib/lib(torch_cuda|c10_cuda|caffe2_nvrtc|torch_nvshmem)[^/]*\.so")
# libnvpl_*.so are BLAS and LAPACK for the CPU.
CUDA_NEEDED = re.compile(
    r"lib(torch_cuda|torch_nvshmem|c10_cuda|caffe2_nvrtc|cudart|cudnn|cufile|nccl|cupti|nvrtc|nv(?!pl)[a-z]*|cublas|cu[a-z]+)[^/]*\.so"
)
CUDA_REQUIREMENT = re.compile(r"Requires-Dist: (nvidia-|cuda-|triton)[^\n]*\n")
WHEEL_DATE = (2026, 1, 1, 0, 0, 0)


class WheelError(Exception):
    """The wheel cannot be made; the message says why and what to do."""


def file_name(version: str, python: str, machine: str, project: str = "torch") -> str:
    """What PyPI calls its wheel of a project for a Python and a machine; `version` may have a local part."""
    tag = f"cp{python.replace('.', '')}"
    return f"{project}-{version}-{tag}-{tag}-{PLATFORM}_{machine}.whl"


def download(version: str, python: str, machine: str, folder: Path, project: str = "torch") -> Path:
    """PyPI's wheel of a project, without its requirements; the one that is in the folder already, if it is.

    Raises:
        WheelError: pip cannot get it.
    """
    found = folder / file_name(version, python, machine, project)
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", python, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}"]
    command += ["--platform", f"{PLATFORM}_{machine}"]
    # A machine's own constraints on torch are meant for its own Python.
    environment = os.environ | {"PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run([*command, "--dest", str(folder), f"{project}=={version}"], env=environment, check=False)
    if done.returncode or not found.exists():
        raise WheelError(
            f"PyPI's {project} {version} for CPython {python} on {machine} cannot be had.\nNext: see pip's message above"
        )
    return found


def tools_for(machine: str) -> tuple[stub.Processor, str]:
    """What the stub is assembled for, and by which compiler.

    Raises:
        WheelError: the processors are not known, or a tool is missing.
    """
    processor = stub.PROCESSORS.get(machine)
    if processor is None:
        raise WheelError(f"No wheel can be made for {machine}.\nNext: choose {' or '.join(stub.PROCESSORS)}")
    compiler = stub.compiler_for(processor)
    if shutil.which("patchelf") is None or compiler is None:
        package = "gcc" if machine == platform.machine() else f"gcc-{machine}-linux-gnu"
        raise WheelError(f"This needs patchelf and gcc for {machine}.\nNext: apt-get install patchelf {package}")
    return processor, compiler


def make(
    version: str, python: str, output: Path, base: Path | None, downloads: Path, machine: str = platform.machine()
) -> Path:
    """The wheel, made unless it is there.

    Args:
        version: torch's, without a local part.
        python: `3.13`.
        output: The folder for the wheel.
        base: A CPU wheel of the same version for any Python, or None.
        downloads: Where PyPI's wheels are kept.
        machine: The processors, as `uname -m` says.

    Returns:
        The wheel's path.

    Raises:
        WheelError: PyPI has no such wheel, the base is another version's, or a tool is missing.
    """
    wheel = output / file_name(f"{version}+cpu", python, machine)
    if wheel.exists():
        return wheel
    if base is not None and not (base.name.startswith(f"torch-{version}+cpu-") and base.stem.endswith(machine)):
        raise WheelError(
            f"{base.name} is no CPU wheel of torch {version} for {machine}.\nNext: name one, or leave --base out"
        )
    processor, compiler = tools_for(machine)
    source = download(version, python, machine, downloads)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix="cpu-wheel-") as scratch:
        tree = Path(scratch, "tree")
        if base is None:
            extract(source, tree, lambda name: not CUDA_LIBRARY.fullmatch(name))
            call_it_cpu(tree, "torch", version)
        else:
            extract(base, tree, lambda name: not OF_PYTHON.fullmatch(name))
            extract(source, tree, lambda name: OF_PYTHON.fullmatch(name) is not None)
        _replace_cuda(tree, processor, compiler)
        write_wheel(tree, Path(scratch, "wheel"), f"cp{python.replace('.', '')}")
        Path(scratch, "wheel").rename(wheel)
    return wheel


def extract(wheel: Path, folder: Path, is_wanted: Callable[[str], bool]) -> None:
    """Unpack those files of a wheel of whose names this is true."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if is_wanted(name)])


def call_it_cpu(tree: Path, project: str, version: str) -> None:
    """Name the tree of a project's wheel as a CPU build names itself."""
    file = tree / project / "version.py"
    text = re.sub(r"(__version__ = '[0-9.]+)[^']*'", r"\1+cpu'", file.read_text())
    file.write_text(re.sub(r"(cuda[^=\n]*= )'[0-9.]+'", r"\1None", text))
    information = (tree / f"{project}-{version}.dist-info").rename(tree / f"{project}-{version}+cpu.dist-info")
    file = information / "METADATA"
    text = CUDA_REQUIREMENT.sub("", file.read_text())
    file.write_text(text.replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n"))


def _replace_cuda(tree: Path, processor: stub.Processor, compiler: str) -> None:
    """Put the stub in the place of every CUDA library that torch's libraries need."""
    libraries = sorted((tree / "torch").rglob("*.so"))
    beside = sorted((tree / "torch").rglob("*.so.*"))
    missing, defined = stub.missing_symbols(libraries, beside, processor)
    stub.write(tree / "torch" / "lib" / stub.NAME, missing, defined, processor, compiler)
    # The extension module says that CUDA is there. torch 2.15 registers Python kernels for it if so.
    for file in tree.glob("torch/backends/cuda/__init__.py"):
        file.write_text(file.read_text().replace("return torch._C._has_cuda", "return torch.version.cuda is not None"))
    for library in libraries:
        need_stub(library, stub.NAME, "$ORIGIN:$ORIGIN/lib" if library.name.startswith("_C.") else "$ORIGIN")
    drop_unneeded(tree / "torch")


def need_stub(library: Path, stub_name: str, search: str) -> None:
    """Let a library need the stub where it needs CUDA libraries, and find it on the path `search`."""
    # "replace" also renames what symbol versions name: the loader asserts that each such library is a needed one.
    options = [
        part
        for name in _needed_by(library)
        if CUDA_NEEDED.match(name)
        for part in ("--replace-needed", name, stub_name)
    ]
    if options:
        subprocess.run(["patchelf", *options, "--set-rpath", search, library], check=True)


def drop_unneeded(folder: Path) -> list[str]:
    """Delete the system libraries that no library in the folder needs now: those that only the CUDA libraries used.

    Returns:
        Their names. A system library has a version after `.so` in its name (`libgfortran.so.5`); torch's own have none.
    """
    dropped: list[str] = []
    while True:
        needed = {name for path in folder.rglob("*.so*") for name in _needed_by(path)}
        unneeded = [path for path in sorted(folder.rglob("*.so.*")) if path.name not in needed]
        if not unneeded:
            return dropped
        for path in unneeded:
            path.unlink()
        dropped += [path.name for path in unneeded]


def _needed_by(library: Path) -> list[str]:
    return subprocess.run(
        ["patchelf", "--print-needed", library], capture_output=True, text=True, check=True
    ).stdout.split()


def write_wheel(tree: Path, output: Path, tag: str) -> None:
    """Zip the tree as a wheel (PyPA's binary distribution format) for the Python `tag`, with a RECORD of its own."""
    (information,) = tree.glob("*.dist-info")
    wheel = information / "WHEEL"
    wheel.write_text(re.sub(r"cp\d+-cp\d+", f"{tag}-{tag}", wheel.read_text()))
    record = information / "RECORD"
    record.unlink()
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(each for each in tree.rglob("*") if each.is_file()):
            name, content = path.relative_to(tree).as_posix(), path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            writer.writerow([name, f"sha256={digest}", len(content)])
            entry = zipfile.ZipInfo(name, WHEEL_DATE)
            # pip makes executable what is a regular file with such a mode; torch starts `bin/torch_shm_manager`.
            entry.external_attr = (stat.S_IFREG | (0o755 if content.startswith(b"\x7fELF") else 0o644)) << 16
            archive.writestr(entry, content)
        name = record.relative_to(tree).as_posix()
        writer.writerow([name, "", ""])
        archive.writestr(zipfile.ZipInfo(name, WHEEL_DATE), rows.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Make one wheel and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.cpu_wheel", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("version", help="torch's version, for example 2.13.0")
    parser.add_argument("python", help="the Python's version, for example 3.13")
    parser.add_argument("--machine", default=platform.machine(), choices=sorted(stub.PROCESSORS), help="the processors")
    parser.add_argument("--base", type=Path, help="a CPU wheel of the same version and machine for any Python")
    parser.add_argument("--output", type=Path, required=True, help="folder for the wheel")
    parser.add_argument("--downloads", type=Path, help="folder for PyPI's wheels (default: below the output)")
    arguments = parser.parse_args(argv)
    downloads = arguments.downloads or arguments.output / "downloads"
    wanted = (arguments.version, arguments.python, arguments.output, arguments.base, downloads, arguments.machine)
    return print_path(lambda: make(*wanted))


def print_path(have: Callable[[], Path], refusal: type[Exception] = WheelError) -> int:
    """Have a file and print its path; 1 with the reason if it cannot be had."""
    try:
        path = have()
    except refusal as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
