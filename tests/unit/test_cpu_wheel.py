"""CPU wheels that are made from CUDA wheels, and the builder for other processors."""

import ctypes
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from builder.stage.policy import MACHINES
from runtimes import cpu_wheel, emulated, stub
from runtimes.cpu_wheel import WheelError
from runtimes.emulated import EmulationError

# What the libraries of a CUDA wheel miss: a function, one whose result is written through, a variable, the type_info of a class,
# and the constructor of that class.
MISSING = {
    "cudaGetDevice": "STT_FUNC",
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
    """A function returns 0; one whose result is written through returns memory; a constructor writes a table with a type."""
    loaded = ctypes.CDLL(str(assembled(tmp_path, platform.machine())))
    assert loaded.cudaGetDevice() == 0
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


def interpreter(folder: Path, said: str) -> Path:
    """A program that stands for an interpreter: it prints a line, and its arguments."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "{said}"\necho "emulated $@"\n')
    path.chmod(0o755)
    return path


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


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="needs the compiler for aarch64")
def test_only_what_runs_torch_is_emulated(tmp_path: Path) -> None:
    """The builder sees the other machine and its tools; its own programs, but for pip and the compilation, are emulated."""
    runs = interpreter(tmp_path, "")
    with emulated.emulated(runs, "aarch64", tmp_path):
        assert platform.machine() == "aarch64"
        assert Path(str(shutil.which("strip"))).readlink().name == "aarch64-linux-gnu-strip"
        done = subprocess.run([sys.executable, "-S", "-c", "1"], capture_output=True, text=True, timeout=1e-9)
        assert done.stdout.split() == ["emulated", "-S", "-c", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--quiet", "install", "--help"], capture_output=True, text=True
        )
        assert "emulated" not in done.stdout
        assert "--no-deps" in done.args
    assert platform.machine() != "aarch64" or MACHINES[platform.machine()] == "EM_AARCH64"
    assert "cross-" not in str(shutil.which("strip"))
