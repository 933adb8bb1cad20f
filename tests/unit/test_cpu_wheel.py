"""CPU wheels that are made from CUDA wheels, and the builder for other processors."""

import ctypes
import importlib.machinery
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from builder import paths
from builder.profile import profiles, record
from builder.stage.policy import MACHINES
from runtimes import cpu_wheel, emulated, foreign_python, stub
from runtimes.cpu_wheel import WheelError
from runtimes.emulated import EmulationError

# What the libraries of a CUDA wheel miss: a function, one whose result is written through, a variable, the type_info of a class,
# and the constructor of that class.
MISSING = {
    "cudaGetDevice": "STT_FUNC",
    "cudaGetDeviceCount": "STT_FUNC",
    "_ZN4c10d15get_gil_checkerEv": "STT_FUNC",
    "_ZN3c104cuda20CUDACachingAllocator9allocatorE": "STT_OBJECT",
    "_ZTIN2at3GpuE": "STT_OBJECT",
    "_ZN2at3GpuC1Ev": "STT_FUNC",
}


def library(folder: Path, name: str, source: str, *needed: str) -> Path:
    """A shared library, compiled from C, that needs others of the folder."""
    options = [f"-Wl,-soname,{name}", f"-L{folder}", *(f"-l:{each}" for each in needed)]
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / name, "-Wl,--no-as-needed", *options]
    subprocess.run([str(part) for part in command], input=source, text=True, check=True)
    return folder / name


def assembled(folder: Path, machine: str) -> Path:
    """The stub for `MISSING`."""
    processor = stub.PROCESSORS[machine]
    compiler = stub.compiler_for(processor)
    if compiler is None:
        pytest.skip(f"there is no compiler for {machine}")
    output = folder / stub.NAME
    stub.write(output, MISSING, set(), processor, compiler)
    return output


@pytest.mark.parametrize("machine", sorted(stub.PROCESSORS))
def test_the_stub_defines_what_is_missing(tmp_path: Path, machine: str) -> None:
    """For each processor the stub is a library for it that defines all names."""
    output = assembled(tmp_path, machine)
    assert {symbol.name for symbol in stub.symbols_of(output) if symbol.is_defined} >= set(MISSING)
    with output.open("rb") as file:
        assert ELFFile(file)["e_machine"] == MACHINES[machine]


def test_the_stubs_functions_return_zero_or_zeros(tmp_path: Path) -> None:
    """A function returns 0, or memory if its result is written through, or that there is no GPU; a constructor writes a table."""
    loaded = ctypes.CDLL(str(assembled(tmp_path, platform.machine())))
    assert loaded.cudaGetDevice() == 0
    assert loaded.cudaGetDeviceCount() == 100
    memory = loaded._ZN4c10d15get_gil_checkerEv
    memory.restype = ctypes.c_void_p
    assert ctypes.string_at(memory(), 4096) == bytes(4096)
    instance = ctypes.POINTER(ctypes.c_void_p)()
    loaded._ZN2at3GpuC1Ev(ctypes.byref(instance))
    type_info = instance[-1]
    assert ctypes.string_at(ctypes.cast(type_info, ctypes.POINTER(ctypes.c_void_p))[1]) == b"N2at3GpuE"


def test_what_libraries_miss_is_found(tmp_path: Path) -> None:
    """A name that no library of the wheel or of the system defines is missing; one that a library beside defines is not."""
    beside = library(tmp_path, "libbeside.so.1", "void omp_start(void) {}")
    ours = library(
        tmp_path, "libours.so", "void cudaOne(void); void omp_start(void); void *malloc(unsigned long);"
        "void ours(void) { cudaOne(); omp_start(); malloc(1); }"
    )  # fmt: skip
    missing, defined = stub.missing_symbols([ours], [beside], stub.PROCESSORS[platform.machine()])
    assert sorted(missing) == ["cudaOne"]
    assert {"ours", "omp_start", "malloc"} <= defined


@pytest.mark.skipif(shutil.which("patchelf") is None, reason="needs patchelf")
def test_libraries_that_only_cuda_used_are_dropped(tmp_path: Path) -> None:
    """A system library goes if no library needs it, and then what only that one needed; torch's own libraries stay."""
    library(tmp_path, "libdeep.so.1", "int deep;")
    library(tmp_path, "libfortran.so.5", "int fortran;", "libdeep.so.1")
    library(tmp_path, "libgomp.so.1", "int gomp;")
    library(tmp_path, "libtorch.so", "int torch;", "libgomp.so.1")
    assert cpu_wheel.drop_unneeded(tmp_path) == ["libfortran.so.5", "libdeep.so.1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libgomp.so.1", "libtorch.so"]


@pytest.mark.parametrize("name", ["libcudart.so.13", "libnvrtc.so.13", "libcupti.so.13", "libtorch_cuda.so"])
def test_cuda_libraries_are_replaced(name: str) -> None:
    """The libraries of CUDA, and torch's own for it, are known by their names."""
    assert cpu_wheel.CUDA_NEEDED.match(name)


@pytest.mark.parametrize("name", ["libnvpl_blas_lp64_gomp.so.0", "libgomp.so.1", "libtorch_cpu.so", "libc10.so"])
def test_libraries_for_the_cpu_are_not_replaced(name: str) -> None:
    """NVIDIA's BLAS and LAPACK for arm64 run on the CPU, whatever their names begin with."""
    assert not cpu_wheel.CUDA_NEEDED.match(name)


def test_a_base_for_other_processors_is_refused(tmp_path: Path) -> None:
    """A wheel is not made of parts for two kinds of processors, and nothing is fetched for it."""
    base = Path("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    with pytest.raises(WheelError, match=r"no CPU wheel of torch 2\.13\.0 for aarch64"):
        cpu_wheel.make("2.13.0", "3.13", tmp_path, base, tmp_path / "downloads", "aarch64")
    assert not list(tmp_path.iterdir())


PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **arguments) {
    printf("emulated in %s:", getenv("QEMU_CPU"));
    for (int i = 1; i < count; i++)
        printf(" %s", arguments[i]);
    return 0;
}
"""


def test_an_interpreter_says_what_it_is_for() -> None:
    """The machine is what the interpreter itself says."""
    assert emulated.machine_of(Path(sys.executable)) == platform.machine()


def test_an_interpreter_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """One of another version, one that does not run here, and one that is not there are told before anything is built."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF and nothing else")
    broken.chmod(0o755)
    for path, message in (
        (broken, "qemu-user-static"),
        (tmp_path / "none", "does not run here"),
    ):
        with pytest.raises(EmulationError, match=message):
            emulated.machine_of(path)
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho aarch64 cpython-299\n")
    other.chmod(0o755)
    with pytest.raises(EmulationError, match="is cpython-299"):
        emulated.machine_of(other)
    assert emulated.machine_of(other, "cpython-299") == "aarch64"


def test_an_interpreter_brings_its_own_libraries(tmp_path: Path) -> None:
    """A loader below the interpreter's own root is its loader; without one it is this machine's; a script needs none."""
    interpreter = tmp_path / "root" / "usr" / "bin" / "python3.13"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text("#!/bin/sh\n")
    assert emulated.libraries_of(interpreter) == {}
    subprocess.run(["gcc", "-x", "c", "-", "-o", str(interpreter)], input=PROGRAM, text=True, check=True)
    ours = emulated.libraries_of(interpreter)
    assert list(ours) == ["LD_LIBRARY_PATH"]
    loader = next(Path("/").glob("lib*/ld-linux-*.so.*"))
    inside = tmp_path / "root" / loader.relative_to("/")
    inside.parent.mkdir()
    inside.touch()
    assert emulated.libraries_of(interpreter) == {
        "QEMU_LD_PREFIX": str(tmp_path / "root"),
        "LD_LIBRARY_PATH": str(inside.parent),
    }


def test_bytecode_is_compiled_before_the_emulator_imports(tmp_path: Path) -> None:
    """The modules of a tree have their bytecode in the folder that the process is told, made once, by this machine's Python."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "module.py").write_text("x = 1\n")
    interpreter = tmp_path / "usr" / "bin" / "python3.13"
    with emulated.Bytecode(sys.executable, interpreter) as bytecode:
        folder = Path(bytecode.of({"PYTHONPATH": f"{tree}:{tmp_path}"}))
        (compiled,) = folder.rglob("module.*.pyc")
        compiled.unlink()
        assert Path(bytecode.of({"PYTHONPATH": str(tree)})) == folder
        assert not list(folder.rglob("*.pyc"))
        given = {"PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(tmp_path / "given")}
        assert bytecode.of(given) == str(tmp_path / "given")
        assert list((tmp_path / "given").rglob("module.*.pyc"))
    assert not folder.exists()


def test_a_known_profile_takes_the_place_of_checks_and_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recording only the workload runs; what waits, and what only the checks import, comes from the known profile."""
    (path,) = paths.PROFILES.glob("torch-2.13.0+cpu-cpython-313-x86_64-workload.json")
    known = profiles.Profile.load(path)
    monkeypatch.setattr(record.RecordingTree, "run", lambda *_: record.NOTHING._replace(modules=("recorded",)))
    tree = record.RecordingTree(Path(), Path())
    with emulated.knowing(path):
        assert tree.run(["-m", "builder.workload"], {}).modules == ("recorded",)
        assert set(tree.run(["-m", "builder.cold_checks", "--output", "x"], {}).modules) == known.warm
        assert vars(record)["search"]() == known.held


def test_what_debian_does_not_have_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version or processors that no Debian release has, and a machine without mmdebstrap, are errors that say what to do."""
    for version, machine in (("3.12", "aarch64"), ("3.13", "riscv64")):
        with pytest.raises(EmulationError, match="No Debian release is known"):
            foreign_python.have(version, machine, tmp_path / "root")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulationError, match="apt-get install mmdebstrap"):
        foreign_python.have("3.13", "aarch64", tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


def test_an_unpacked_interpreter_is_used_again(tmp_path: Path) -> None:
    """One that is in the folder is not fetched; it must be for the processors that are wanted."""
    interpreter = tmp_path / "usr" / "bin" / "python3.13"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text("#!/bin/sh\necho aarch64 cpython-313\n")
    interpreter.chmod(0o755)
    assert foreign_python.have("3.13", "aarch64", tmp_path) == interpreter
    with pytest.raises(EmulationError, match="is for aarch64"):
        foreign_python.have("3.13", "x86_64", tmp_path)


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs the compiler for aarch64")
def test_only_what_runs_torch_is_emulated(tmp_path: Path) -> None:
    """The builder sees the other machine and its tools; its own programs, but for pip and the compilation, are emulated."""
    runs = tmp_path / "python"
    subprocess.run(["gcc", "-x", "c", "-", "-o", str(runs)], input=PROGRAM, text=True, check=True)
    with emulated.emulated(runs, "aarch64", tmp_path):
        assert platform.machine() == "aarch64"
        # What the interpreter prints, in words.
        assert importlib.machinery.EXTENSION_SUFFIXES[0] == "emulated"
        assert Path(str(shutil.which("strip"))).readlink().name == "aarch64-linux-gnu-strip"
        done = subprocess.run([sys.executable, "-S", "-c", "1"], capture_output=True, text=True, timeout=1e-9)
        assert done.stdout == "emulated in neoverse-n1: -S -c 1"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--quiet", "install", "--help"], capture_output=True, text=True
        )
        assert "emulated" not in done.stdout
        assert "--no-deps" in done.args
    assert "cross-" not in str(shutil.which("strip"))
