"""Makes the other ways to bring torch to Lambda, from the same wheels. Each is a folder, as /opt/python would be."""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import zstandard

from builder.account.packaging import write_zip
from builder.stage.needs import elf_files

# As in layers/torch/requirements.txt.
PACKAGES = (
    "torch", "numpy", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy",
    "typing-extensions",
)  # fmt: skip
# SAM's zips give every file this date. So the time stamp in bytecode never equals that of its source.
SAM_DATE = 315_532_800  # 1980-01-01, seconds since 1970


class Peer(NamedTuple):
    """A way to bring torch to Lambda."""

    name: str
    make: Callable[[Path, Path], None]  # (folder of installed packages, empty folder to fill)
    prelude: str  # Python that its users run before `import torch`
    what: str  # what it does, in a sentence


def installed_files() -> list[str]:
    """Paths of every file that pip installed for the layer's packages, relative to site-packages, without bytecode."""
    paths = [str(path) for package in PACKAGES for path in distribution(package).files or ()]
    return [path for path in paths if not path.startswith("..") and "__pycache__" not in path]


def stock(installed: Path, tree: Path) -> None:
    """What pip installs, with bytecode that is valid on the machine that compiled it."""
    for name in installed_files():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(installed / name, target)
    compileall.compile_dir(tree, quiet=2, workers=2)


def as_sam_ships_it(installed: Path, tree: Path) -> None:
    """The same with the date that SAM's zip gives every file: no bytecode is valid, and Python cannot write to /opt."""
    stock(installed, tree)
    for path in tree.rglob("*"):
        os.utime(path, (SAM_DATE, SAM_DATE))


# The recipe of https://github.com/ryfeus/lambda-packs and of its many successors.
_DELETED = re.compile(
    r"(.*/)?(tests?|__pycache__|include)/|[^/]+\.dist-info/|torch/(bin/(?!torch_shm_manager$)|share/)|.*\.(pyc|pyi|a|h|hpp)$"
    r"|torch/lib/lib(torchbind_test|jitbackend_test|backend_with_compiler|aoti_custom_ops)\.so$"
)


def deleted_and_stripped(installed: Path, tree: Path) -> None:
    """Delete tests, headers, metadata and bytecode, and strip the libraries. Files have SAM's date, as in any zip."""
    for name in installed_files():
        if not _DELETED.match(name):
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(installed / name, target)
    libraries = [str(path) for path in elf_files(tree) if ".libs/" not in str(path) and "libgomp" not in path.name]
    subprocess.run(["strip", *libraries], check=True)
    for path in tree.rglob("*"):
        os.utime(path, (SAM_DATE, SAM_DATE))


def nested_zip(installed: Path, tree: Path) -> None:
    """Put the deleted and stripped tree into one zip, which every start unpacks."""
    inner = tree.with_name(tree.name + "-inner")
    inner.mkdir()
    try:
        deleted_and_stripped(installed, inner)
        write_zip(inner, tree / ".requirements.zip")
    finally:
        shutil.rmtree(inner)


# What serverless-python-requirements puts into a function as unzip_requirements.py, without its checks.
UNZIP = """
import os, sys, zipfile
folder = os.path.join(os.environ["TMPDIR"], "sls-py-req")
zipfile.ZipFile(os.path.join(sys.path[0], ".requirements.zip")).extractall(folder + "-partial")
os.rename(folder + "-partial", folder)
sys.path.insert(0, folder)
"""

_LIBRARY = "torch/lib/libtorch_cpu.so"


def _compile_what_torch_imports(tree: Path) -> None:
    """Compile the modules that `import torch` runs, for any date of the sources. All modules would not fit."""
    program = (
        "import sys, torch; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)))"
    )
    command = [sys.executable, "-S", "-P", "-s", "-B", "-c", program]
    process = subprocess.run(command, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True)
    for name in process.stdout.split():
        if name.endswith(".py") and Path(name).is_relative_to(tree):
            py_compile.compile(name, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def compressed_library(installed: Path, tree: Path) -> None:
    """The deleted and stripped tree. Its largest library is under zstd -19, beside a decoder and torch's bytecode."""
    deleted_and_stripped(installed, tree)
    _compile_what_torch_imports(tree)
    library = tree / _LIBRARY
    compressor = zstandard.ZstdCompressor(level=19, threads=-1)
    with library.open("rb") as source, library.with_suffix(".so.zst").open("wb") as target:
        compressor.copy_stream(source, target, size=library.stat().st_size)
    library.unlink()
    shutil.copytree(installed / "zstandard", tree / "zstandard", ignore=shutil.ignore_patterns("__pycache__"))


INFLATE = f"""
import ctypes, os, sys
import zstandard
library = os.path.join(sys.path[0], {_LIBRARY!r})
file = os.memfd_create("libtorch_cpu")
with open(library + ".zst", "rb") as source, open(file, "wb", closefd=False) as target:
    zstandard.ZstdDecompressor().copy_stream(source, target, read_size=1 << 20, write_size=1 << 20)
folder = os.path.dirname(library)
for name in sorted(os.listdir(folder)):
    if name.startswith("libgomp") or name == "libc10.so":
        ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(f"/proc/self/fd/{{file}}", mode=ctypes.RTLD_GLOBAL)
"""

PEERS = (
    Peer("stock, valid bytecode", stock, "", "what pip installs, with its bytecode"),
    Peer(
        "stock, as SAM ships it",
        as_sam_ships_it,
        "",
        "the same with SAM's 1980 dates: Python compiles every module again",
    ),
    Peer(
        "delete and strip",
        deleted_and_stripped,
        "",
        "the 2018 recipe: delete tests, headers, metadata, bytecode; strip",
    ),
    Peer("nested zip to /tmp", nested_zip, UNZIP, "the same in a zip, which every cold start unpacks to /tmp"),
    Peer("zstd into memfd", compressed_library, INFLATE, "the same; every start decompresses all of libtorch_cpu.so"),
)


def prepare(peer: Peer, installed: Path, cache: Path, *, zipped: bool = True) -> Path:
    """Make the peer's folder below `cache`, unless it is there. If `zipped`, also make `FOLDER.zip` for the upload."""
    versions = "-".join(distribution(package).version for package in ("torch", "numpy"))
    name = f"{re.sub(r'[^a-z]+', '-', peer.name.lower())}-{versions}"
    tree = cache / name
    if not tree.exists():
        partial = cache / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        peer.make(installed, partial)
        partial.rename(tree)
    if zipped and not zip_of(tree).exists():
        write_zip(tree, zip_of(tree))
    return tree


def zip_of(tree: Path) -> Path:
    """The path of the tree's archive."""
    return tree.with_name(tree.name + ".zip")
