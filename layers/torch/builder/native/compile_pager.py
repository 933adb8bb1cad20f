"""Compiles the pager (layers/torch/pager) with zstd's decoder inside.

zstd's source is one file in the source distribution of PyPI's `zstandard`. So one run of the compiler is enough, no
library of the build image is needed, and the decoder is the same everywhere.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from builder import paths
from builder.errors import BuildError
from torch_layer import COMPANION_LIBRARY, PAGER_LIBRARY

PAGER_NAME = PAGER_LIBRARY
COMPANION_NAME = COMPANION_LIBRARY


class Sdist(NamedTuple):
    """A source distribution on PyPI, and the hash that it must have."""

    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name on PyPI."""
        return f"{self.name}-{self.version}.tar.gz"


ZSTD_SDIST = Sdist("zstandard", "0.25.0", "7713e1179d162cf5c7906da876ec2ccb9c3a9dcbdffef0cc7f70c3667a205f0b")
"""zstd 1.5.7. The frame format is stable (RFC 8878), so the version that compresses may be another one."""

COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
"""Debian's names of the cross compilers, for an architecture other than this machine's."""


_decoders: dict[str, bytes] = {}
"""zstd's object file by architecture, once this process has compiled it."""


def find_compiler(arch: str) -> str | None:
    """The C compiler for an architecture, or None. `CC` in the environment is tried first for this machine's own."""
    if arch != platform.machine():
        return shutil.which(COMPILERS.get(arch, ""))
    candidates = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((found for name in candidates if name and (found := shutil.which(name))), None)


def require_compiler(arch: str) -> str:
    """The C compiler for an architecture.

    Raises:
        BuildError: There is no compiler for it, or no make.
    """
    if arch not in COMPILERS:
        raise BuildError(f"the pager knows no architecture {arch!r}", f"choose one of {', '.join(COMPILERS)}")
    compiler = find_compiler(arch)
    if compiler is None or shutil.which("make") is None:
        raise BuildError(
            f"there is no C compiler for {arch}, or no make",
            "install gcc and make"
            + ("" if arch == platform.machine() else f" (Debian: gcc-{arch.replace('_', '-')}-linux-gnu)"),
        )
    return compiler


def build_pager(output: Path, *, arch: str, recording: bool = False) -> Path:
    """Compile the pager, and beside it the companion that `builder.native.split` copies for each library.

    Args:
        output: Where the pager goes; its name should be `PAGER_NAME`, which split libraries look for.
        arch: x86_64 or aarch64.
        recording: The variant for a recording tree.

    Returns:
        `output`.

    Raises:
        BuildError: There is no compiler or make, zstd's source cannot be fetched, or the compiler failed.
    """
    compiler = require_compiler(arch)
    with zstd_source() as zstd, tempfile.TemporaryDirectory(prefix="pager-") as scratch:
        decoder = Path(scratch, ".objects", "zstd.o")
        if arch in _decoders:  # zstd takes most of the time, and is the same in both variants
            decoder.parent.mkdir()
            decoder.write_bytes(_decoders[arch])
        command = ["make", "-s", "-j2", "-C", str(paths.PAGER), f"OUT={scratch}", f"ZSTD={zstd}", f"CC={compiler}"]
        if recording:
            command.append("RECORDING=1")
        environment = {
            key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise BuildError(
                f"the pager does not compile:\n{done.stderr.strip()[-4000:]}", "see the compiler's message"
            )
        _decoders[arch] = decoder.read_bytes()
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(scratch, PAGER_NAME), output)
        shutil.copyfile(Path(scratch, COMPANION_NAME), output.with_name(COMPANION_NAME))
        output.chmod(0o755)
        output.with_name(COMPANION_NAME).chmod(0o755)
    return output


@contextmanager
def zstd_source() -> Iterator[Path]:
    """A folder with zstd.c and zstd.h. It is removed when the context ends.

    Raises:
        BuildError: pip cannot get the source distribution, or its hash is not the expected one.
    """
    archive = _cached_sdist()
    with tempfile.TemporaryDirectory(prefix="zstd-") as scratch:
        with tarfile.open(archive) as members:
            for name in ("zstd.c", "zstd.h", "zstd_errors.h", "zdict.h", "LICENSE"):
                member = members.extractfile(f"{archive.name.removesuffix('.tar.gz')}/zstd/{name}")
                if member is None:
                    raise BuildError(f"{archive} has no zstd/{name}", "delete it and build again")
                Path(scratch, name).write_bytes(member.read())
        yield Path(scratch)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambda-torch"


def _cached_sdist() -> Path:
    kept = _cache_folder() / ZSTD_SDIST.file_name
    if kept.is_file() and _matches(kept):
        return kept
    with tempfile.TemporaryDirectory(prefix="sdist-") as scratch:
        downloaded = _download(Path(scratch))
        if not _matches(downloaded):
            raise BuildError(
                f"pip got a {ZSTD_SDIST.file_name} whose sha256 is not the one that this builder expects",
                "check the package index that pip is configured for",
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copyfile(downloaded, partial)
        partial.replace(kept)
    return kept


def _download(folder: Path) -> Path:
    wanted = f"{ZSTD_SDIST.name}=={ZSTD_SDIST.version}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ZSTD_SDIST.name, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = folder / ZSTD_SDIST.file_name
    if done.returncode or not found.is_file():
        raise BuildError(
            f"pip cannot get the source distribution of {wanted}:\n{done.stderr.strip()[-2000:]}",
            "check the network and pip's index, or put the file into " + str(_cache_folder()),
        )
    return found


def _matches(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == ZSTD_SDIST.sha256
