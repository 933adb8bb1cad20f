"""The layer loads where Lambda runs it: no ELF file asks for more than Amazon Linux 2023 has."""

from __future__ import annotations

import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.layer.conftest import Layer

# Amazon Linux 2023: glibc 2.34, and the libstdc++ and libgcc of GCC 11.
NEWEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (7, 0, 0)}

BUILD = Path(__file__).resolve().parents[3] / "build"
OLD_PACKAGES = (
    "libc6", "libstdc++6", "libgcc-s1", "python3.9-minimal", "libpython3.9-minimal", "libpython3.9-stdlib",
)  # fmt: skip
OLD_PROGRAM = Path(__file__).parent / "programs" / "old_glibc.py"


def _elf_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def _needed_versions(path: Path) -> dict[str, set[tuple[int, ...]]]:
    """Versions of every symbol namespace that the file at `path` needs.

    They are read as the loader reads them, from the dynamic segment (gABI, "Symbol Versioning"): a split library has no
    section headers that could be asked instead.
    """
    found: dict[str, set[tuple[int, ...]]] = {}
    with path.open("rb") as file:
        elf = ELFFile(file)
        dynamic = next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)
        tags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()} if dynamic else {}

        def read(address: int, size: int) -> bytes:
            file.seek(next(elf.address_offsets(address)))
            return file.read(size)

        def text(address: int) -> str:
            return read(address, 64).split(b"\0")[0].decode()

        need = tags.get("DT_VERNEED", 0)
        for _ in range(tags.get("DT_VERNEEDNUM", 0)):
            _, count, _, first, following = struct.unpack("<HHIII", read(need, 16))
            entry = need + first
            for _ in range(count):
                *_, name, step = struct.unpack("<IHHII", read(entry, 16))
                match = re.fullmatch(r"([A-Z]+)_([0-9.]+)", text(tags["DT_STRTAB"] + name))
                if match:
                    found.setdefault(match[1], set()).add(tuple(map(int, match[2].split("."))))
                entry += step
            need += following
    return found


def test_no_library_needs_newer_symbols_than_the_runtime_has(layer: Layer) -> None:
    """Every ELF file of the layer is content with GLIBC_2.34, GLIBCXX_3.4.29 and what else Amazon Linux 2023 has."""
    files = list(_elf_files(layer.root))
    needs = {path: _needed_versions(path) for path in files}
    assert sum("GLIBC" in versions for versions in needs.values()) > 20
    torch = next(versions for path, versions in needs.items() if path.name == "libtorch_cpu.so")
    assert max(torch["GLIBCXX"]) >= (3, 4, 20), "the versions of the largest library could not be read"
    too_new = [
        f"{path.relative_to(layer.root)} needs {namespace}_{'.'.join(map(str, max(versions)))}"
        for path, namespaces in needs.items()
        for namespace, versions in namespaces.items()
        if namespace in NEWEST and max(versions) > NEWEST[namespace]
    ]
    assert too_new == []


def test_every_library_loads_alone(layer: Layer) -> None:
    """Every shared library of the layer can be loaded by a process that has loaded nothing else of it."""
    libraries = [path for path in _elf_files(layer.root) if ".so" in path.name]
    program = "import ctypes, os, sys; [ctypes.CDLL(path, mode=os.RTLD_NOW) for path in sys.argv[1:]]"
    failed = {}
    for path in libraries:
        process = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if process.returncode:
            failed[path.name] = process.stderr.strip().splitlines()[-1:]
    assert failed == {}


@pytest.fixture(scope="module")
def bullseye() -> Path:
    """Debian bullseye's C library (2.31, older than Lambda's 2.34), C++ library and Python, unpacked into a folder."""
    folder = BUILD / "cache" / "bullseye"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        if shutil.which("mmdebstrap") is None:
            pytest.skip("unpacking Debian bullseye needs mmdebstrap (Debian: apt-get install mmdebstrap)")
        # A new folder each time: what a run that was killed left cannot always be removed, and mmdebstrap refuses it.
        for left in folder.parent.glob("bullseye*partial*"):
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="bullseye.partial-", dir=folder.parent))
        partial.chmod(0o755)
        try:
            packages = ",".join(OLD_PACKAGES)
            command = ["mmdebstrap", "--variant=extract", f"--include={packages}", "bullseye", str(partial)]
            process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if process.returncode:
                pytest.skip(f"Debian bullseye cannot be had here: {process.stderr.strip().splitlines()[-1:]}")
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls MKL, which is for x86_64")
def test_the_layer_loads_on_an_older_c_library(layer: Layer, bullseye: Path) -> None:
    """glibc 2.31 loads the split libtorch_cpu.so and libtorch.so, and cold MKL code computes there."""
    library, loader = layer.tree / "torch/lib/libtorch_cpu.so", bullseye / "lib/x86_64-linux-gnu/ld-2.31.so"
    folders = f"{loader.parent}:{bullseye / 'usr/lib/x86_64-linux-gnu'}"
    process = subprocess.run(
        [
            loader,
            "--library-path",
            folders,
            bullseye / "usr/bin/python3.9",
            "-S",
            OLD_PROGRAM,
            library,
            library.with_name("libtorch.so"),
        ],
        env={"PYTHONHOME": str(bullseye / "usr"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[0] == "2.31"
