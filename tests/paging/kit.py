"""Small libraries with much code, split by the real builder and run in processes of their own: what the pager's tests share."""

import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from builder import paths
from builder.native.compile_pager import COMPANION_NAME, PAGER_NAME, build_pager
from builder.native.side_file import FILE_NAME
from builder.native.split import LibraryPlan, prepare_recording, thin

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "tests"
FUNCTIONS = 160
BLOCK_BYTES = 16384
PLAIN, THROWING = "package/lib/libplain.so", "package/lib/libthrowing.so"
LAYOUTS = {
    "two segments": ["-Wl,-z,noseparate-code"],
    "four segments": ["-Wl,-z,separate-code"],
    # As patchelf leaves libraries of arm64 wheels.
    "not at zero": ["-Wl,-z,noseparate-code", "-Wl,-Ttext-segment=0x400000"],
}


def compiled_pager(recording: bool = False, arch: str = "", flags: str = "-O2") -> Path:
    """The folder of a pager, compiled once for these sources and flags and kept below build/."""
    digest = hashlib.sha256(repr((recording, arch, flags)).encode())
    for path in sorted(paths.PAGER.iterdir()):
        digest.update(path.read_bytes())
    folder = KEPT / f"pager-{digest.hexdigest()[:16]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as environment:
        environment.setenv("CFLAGS", flags)
        if not (folder / COMPANION_NAME).exists():
            partial = folder.with_name(f"{folder.name}.{os.getpid()}")
            build_pager(partial / PAGER_NAME, arch=arch or platform.machine(), recording=recording)
            partial.rename(folder)
    return folder


def plain_source(seed: int = 1) -> str:
    """C: FUNCTIONS exported functions of about 3 kB of distinct code each, one of which runs as a static initialiser."""
    dice = random.Random(seed)
    parts = ["#include <stdint.h>", "#define S(a, b, c) x = x * a + b; x ^= x >> c;"]
    for number in range(FUNCTIONS):
        steps = "".join(
            f"S({dice.getrandbits(31) | 1}u, {dice.getrandbits(31)}u, {dice.randint(3, 29)})" for _ in range(200)
        )
        parts.append(f"uint64_t f{number}(uint64_t x) {{ {steps} return x; }}")
    names = ", ".join(f"f{number}" for number in range(FUNCTIONS))
    parts.append(f"static uint64_t (*const all[])(uint64_t) = {{ {names} }};")
    parts.append("uint64_t call(int n, uint64_t x) { return all[n](x); }")
    parts.append("uint64_t initialised;")
    parts.append(f"__attribute__((constructor)) static void init(void) {{ initialised = f{FUNCTIONS // 2}(7); }}")
    return "\n".join(parts)


def throwing_source() -> str:
    """C++: an exception that passes through frames with destructors, each on cold pages of its own."""
    frames = 12
    parts = [
        "#include <stdexcept>",
        "#include <string>",
        "static int cleaned;",
        "struct Guard { ~Guard() { ++cleaned; } };",
    ]
    parts.append(
        '__attribute__((noinline)) static int frame0(int x) { if (x > 0) throw std::runtime_error("thrown"); return x; }'
    )
    for number in range(1, frames):
        filler = "".join(f"y = y * {number * 7919 + i}u + {i * 31}u; y ^= y >> {3 + i % 23};" for i in range(400))
        parts.append(
            f"__attribute__((noinline)) static int frame{number}(int x) {{ Guard g; volatile unsigned y = x; {filler}"
            f" return frame{number - 1}(x) + (int)y; }}"
        )
    parts.append(
        f'extern "C" int attempt(int x) {{ cleaned = 0; try {{ return frame{frames - 1}(x); }}'
        ' catch (const std::runtime_error &e) { return e.what() == std::string("thrown") ? -cleaned : -1000; } }'
    )
    return "\n".join(parts)


def compile_library(source: str, output: Path, *flags: str, compiler: str = "gcc", suffix: str = "c") -> Path:
    """Compile a source text to a shared library. It is compiled once for these arguments and kept below build/."""
    command = [compiler, "-O1", "-w", "-fmax-errors=1", "-fPIC", "-shared"]
    key = hashlib.sha256(repr((command, flags, suffix, source)).encode()).hexdigest()[:16]
    kept = KEPT / f"library-{key}.so"
    KEPT.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            text, partial = output.with_suffix(f".{suffix}"), output.with_suffix(".partial")
            text.write_text(source, encoding="utf-8")
            subprocess.run([*command, "-o", partial, text, *flags], check=True, timeout=300)
            text.unlink()
            shutil.move(partial, kept)
    shutil.copy(kept, output)
    return output


@dataclass(frozen=True)
class Tree:
    """A folder like the layer's Python folder."""

    root: Path

    @property
    def side_file(self) -> Path:
        """The compressed half of its libraries."""
        return self.root / "torch_layer" / FILE_NAME

    def copy(self, to: Path) -> "Tree":
        """A copy to change or to damage."""
        shutil.copytree(self.root, to)
        return Tree(to)

    def add_pager(self, recording: bool = False) -> None:
        """Put the compiled pager and its Python module where the layer has them."""
        shutil.copytree(compiled_pager(recording), self.side_file.parent)
        package = paths.RUN_TIME
        for name in ("__init__.py", "pager.py"):
            shutil.copy(package / name, self.side_file.parent)

    def split(self, plans: dict[str, LibraryPlan] | None = None, **options: Any) -> None:
        """Split its libraries, all cold unless plans say otherwise, into small blocks: many faults from little code."""
        self.add_pager()
        thin(
            plans or {PLAIN: LibraryPlan(), THROWING: LibraryPlan()},
            self.root,
            self.side_file,
            BLOCK_BYTES,
            3,
            **options,
        )

    def record(self) -> None:
        """Make it a recording tree."""
        self.add_pager(recording=True)
        prepare_recording({PLAIN: LibraryPlan(), THROWING: LibraryPlan()}, self.root, self.side_file)

    def run(self, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program that finds `plain`, `throwing`, `call_all` and `pager` defined."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TORCH_LAYER", "PYTHON"))}
        return subprocess.run(
            [sys.executable, "-S", "-c", PRELUDE + program],
            env={**inherited, "TREE": str(self.root), **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def result(self, program: str, **environment: str) -> Any:
        """What a program prints as JSON on its last line; it must end well."""
        done = self.run(program, **environment)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])


PRELUDE = f"""
import ctypes, json, os, signal, sys, threading, time
sys.path.insert(0, os.environ["TREE"])
from torch_layer import pager

def load(name):
    library = ctypes.CDLL(os.environ["TREE"] + "/" + name)
    if name == {PLAIN!r}:
        library.call.restype = ctypes.c_uint64
        library.call.argtypes = [ctypes.c_int, ctypes.c_uint64]
    return library

def call_all(library, seed=1):
    return [library.call(n, seed) for n in range({FUNCTIONS})]
"""
USE_BOTH = f"plain, throwing = load({PLAIN!r}), load({THROWING!r})\n"


def unsplit(folder: Path) -> Tree:
    """A tree with both libraries as compiled; `torch_layer.pager` reports zeros there."""
    tree = Tree(folder)
    compile_library(plain_source(), tree.root / PLAIN, *LAYOUTS["two segments"])
    compile_library(throwing_source(), tree.root / THROWING, *LAYOUTS["four segments"], compiler="g++", suffix="cc")
    return tree
