"""What a Lambda runtime can load, as data, and the checks that hold every installed file against it.

The idea of symbol-version policies is auditwheel's (https://github.com/pypa/auditwheel, PEP 600).
"""

import platform
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from builder.errors import RequirementsError

# Function and all its layers, unzipped: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LIMIT_BYTES = 262_144_000
# What this layer may take of it: the rest is the user's own code. Decimal bytes.
BUDGET_BYTES = 200_000_000


class RuntimePolicy(NamedTuple):
    """What one Lambda runtime offers to the files of a layer."""

    name: str
    python: tuple[int, int]
    symbol_versions: tuple[
        tuple[str, tuple[int, ...]], ...
    ]  # highest version of each symbol namespace that its libraries have
    reason: str


# Amazon Linux 2023: glibc 2.34; libstdc++ and libgcc of GCC 11.
_AL2023 = (("GLIBC", (2, 34)), ("GLIBCXX", (3, 4, 29)), ("CXXABI", (1, 3, 13)), ("GCC", (7, 0, 0)))

RUNTIMES = (
    RuntimePolicy("python3.12", (3, 12), _AL2023, "Amazon Linux 2023"),
    RuntimePolicy("python3.13", (3, 13), _AL2023, "Amazon Linux 2023"),
    RuntimePolicy("python3.14", (3, 14), _AL2023, "Amazon Linux 2023"),
    RuntimePolicy(
        "python3.11",
        (3, 11),
        _AL2023,
        "for trying a layer on a developer's machine: Lambda's own 3.11 has glibc 2.26, too old for torch's wheels",
    ),
)


class Forbidden(NamedTuple):
    """Distributions that have no place in a CPU layer."""

    pattern: str  # matched against the whole normalised name (PEP 503)
    reason: str


FORBIDDEN_DISTRIBUTIONS = (
    Forbidden(r"nvidia-.*", "NVIDIA's CUDA libraries: gigabytes, and Lambda has no GPU"),
    Forbidden(r"cuda-.*", "CUDA: Lambda has no GPU"),
    Forbidden(r"(pytorch-)?triton(-.*)?", "the GPU compiler: Lambda has no GPU"),
)
FORBIDDEN_FILES = re.compile(r"(^|/)lib(cudart|cudnn|cublas|cusparse|nccl|torch_cuda|c10_cuda)[^/]*\.so[^/]*$")

# e_machine (ELF specification, chapter 4) by what `uname -m` says.
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
_MACHINE_NAMES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "x86 (32 bits)", "EM_ARM": "arm (32 bits)"}

_CPU_INDEX_STEP = (
    'ask for the CPU build: a version with "+cpu" in requirements.txt (torch==2.13.0+cpu), found in '
    "https://download.pytorch.org/whl/cpu"
)


def running_runtime() -> RuntimePolicy:
    """The runtime whose Python is the one that runs the builder. Raises `RequirementsError` if Lambda has none such."""
    for runtime in RUNTIMES:
        if runtime.python == sys.version_info[:2]:
            return runtime
    raise RequirementsError(
        f"no Lambda runtime is known for Python {sys.version_info[0]}.{sys.version_info[1]}, which runs the build",
        f"run it with one of {', '.join(f'{r.python[0]}.{r.python[1]}' for r in RUNTIMES)} (make layer PYTHON=python3.13)",
    )


def running_machine() -> str:
    """The architecture that the layer is built for: that of the machine which runs the builder. Raises `RequirementsError`."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise RequirementsError(f"Lambda has no {machine} processors", f"build on {' or '.join(MACHINES)}")
    return machine


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_distributions(names: Iterable[str]) -> None:
    """Raise `RequirementsError` naming every distribution that a CPU layer must not hold."""
    found = [
        f"{name} ({forbidden.reason})"
        for name in sorted(names)
        for forbidden in FORBIDDEN_DISTRIBUTIONS
        if re.fullmatch(forbidden.pattern, normalised(name))
    ]
    if found:
        raise RequirementsError(
            f"the requirements bring what a Lambda layer cannot use: {'; '.join(found)}", _CPU_INDEX_STEP
        )


class Needs(NamedTuple):
    """What one ELF file asks of the machine."""

    path: str
    machine: str
    versions: tuple[tuple[str, tuple[int, ...]], ...]


def elf_files(tree: Path) -> Iterator[Path]:
    """Every regular file below `tree` that begins as ELF files do, in order of paths."""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def needs_of(path: Path, name: str) -> Needs:
    """Read what the ELF file asks for. Raises `RequirementsError` for a damaged file."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            versions = []
            section = elf.get_section_by_name(".gnu.version_r")
            if isinstance(section, GNUVerNeedSection):
                for _, auxiliaries in section.iter_versions():
                    for auxiliary in auxiliaries:
                        namespace, _, version = auxiliary.name.rpartition("_")
                        if re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
                            versions.append((namespace, tuple(int(part) for part in version.split("."))))
            return Needs(name, str(elf["e_machine"]), tuple(sorted(set(versions))))
    except (ELFError, ValueError, OSError) as error:
        raise RequirementsError(
            f"{name} is a damaged ELF file: {error}", "install the package again (pip cache purge)"
        ) from error


def check_files(tree: Path, owners: dict[str, str], runtime: RuntimePolicy, machine: str) -> list[Needs]:
    """Hold every ELF file of an installed tree against the runtime, and return what each asks for.

    Args:
        tree: The folder that pip installed into.
        owners: Which distribution (name and version) owns a path relative to `tree`.
        runtime: What the files may ask for.
        machine: `x86_64` or `aarch64`.

    Raises:
        RequirementsError: Naming package, file and reason for everything that could not be loaded there.
    """
    limits = dict(runtime.symbol_versions)
    problems, found = [], []
    for path in elf_files(tree):
        name = path.relative_to(tree).as_posix()
        owner = owners.get(name, "no package")
        if FORBIDDEN_FILES.search(name):
            problems.append(f"{owner}: {name} is a CUDA library")
            continue
        needs = needs_of(path, name)
        found.append(needs)
        if needs.machine != MACHINES[machine]:
            problems.append(f"{owner}: {name} is for {_MACHINE_NAMES.get(needs.machine, needs.machine)}, not {machine}")
        for namespace, version in needs.versions:
            if namespace in limits and version > limits[namespace]:
                wanted, has = (".".join(map(str, v)) for v in (version, limits[namespace]))
                problems.append(f"{owner}: {name} needs {namespace}_{wanted}, and {runtime.name} has {namespace}_{has}")
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise RequirementsError(
            f"files that {runtime.name} ({runtime.reason}) cannot load:\n  " + "\n  ".join(problems[:20]) + more,
            "pin versions of these packages whose wheels are manylinux_2_34 or older, for this architecture and without CUDA",
        )
    return found
