"""What a Lambda runtime can load and what this builder was made for, as data, and the refusals that follow from it.

The idea of symbol-version policies is auditwheel's (https://github.com/pypa/auditwheel, PEP 600).
"""

import platform
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from builder.errors import RequirementsError

# Function and all its layers, unzipped: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LIMIT_BYTES = 262_144_000
# What this layer may take of it: the rest is the user's own code. Decimal bytes.
BUDGET_BYTES = 200_000_000
# The same for a layer that brings packages of the user's own, which the function then does not have: its own code and
# requirements take some 15 MB.
BUDGET_WITH_EXTRAS_BYTES = 235_000_000


class RuntimePolicy(NamedTuple):
    """What one Lambda runtime offers to the files of a layer."""

    name: str
    python: tuple[int, int]
    symbol_versions: tuple[
        tuple[str, tuple[int, ...]], ...
    ]  # the highest version of each symbol namespace that its libraries have
    reason: str
    is_deployed: bool = True  # whether Lambda's own runtime of that name loads such a layer


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
        "to try a layer on a developer's machine: Lambda's own 3.11 has glibc 2.26, too old for torch's wheels",
        is_deployed=False,
    ),
)


class KnownTorch(NamedTuple):
    """A version of torch that the rules of this builder were written for."""

    version: str  # major and minor
    reason: str


# Which modules can wait, which sources stay files, what is pruned: all of it is about one version's sources and
# libraries.
KNOWN_TORCH = (
    KnownTorch("2.13", "recorded, built and verified with 2.13.0; the default"),
    KnownTorch("2.14", "recorded, built and verified with 2.14.0 on CPython 3.13"),
    KnownTorch("2.15", "recorded, built and verified with 2.15.0 on CPython 3.13"),
)
EXAMPLE_VERSION = "2.13.0+cpu"  # the layer's own


class Forbidden(NamedTuple):
    """Distributions that have no place in a CPU layer."""

    pattern: str  # matched against the whole normalised name (PEP 503)
    reason: str


FORBIDDEN_DISTRIBUTIONS = (
    Forbidden(r"nvidia-.*", "NVIDIA's CUDA libraries take gigabytes, and Lambda has no GPU"),
    Forbidden(r"cuda-.*", "they are parts of CUDA, and Lambda has no GPU"),
    Forbidden(r"(pytorch-)?triton(-.*)?", "it compiles for GPUs, and Lambda has none"),
)

# e_machine (ELF specification, chapter 4) by what `uname -m` says.
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
MACHINE_NAMES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "x86 (32 bits)", "EM_ARM": "arm (32 bits)"}

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def running_runtime() -> RuntimePolicy:
    """The runtime whose Python runs the builder.

    Raises:
        RequirementsError: Lambda has no such runtime.
    """
    for runtime in RUNTIMES:
        if runtime.python == sys.version_info[:2]:
            return runtime
    raise RequirementsError(
        f"no Lambda runtime is known for Python {sys.version_info[0]}.{sys.version_info[1]}, which runs the build",
        f"run it with one of {', '.join(f'{r.python[0]}.{r.python[1]}' for r in RUNTIMES)} (make layer PYTHON=python3.13)",
    )


def running_machine() -> str:
    """The architecture that the layer is built for: that of the machine which runs the builder.

    Raises:
        RequirementsError: Lambda has no such processors.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise RequirementsError(f"Lambda has no {machine} processors", f"build on {' or '.join(MACHINES)}")
    return machine


def require_architecture(wanted: str) -> None:
    """Refuse to build for other processors than this machine's: pip and the recording run on what the layer is for.

    Args:
        wanted: As Lambda calls it (`arm64`), or as `uname -m` does (`aarch64`).

    Raises:
        RequirementsError: this machine is another one, or Lambda has no such processors.
    """
    machine = running_machine()
    named = {"arm64": "aarch64"}.get(wanted, wanted)
    if named not in MACHINES:
        raise RequirementsError(f"Lambda has no {wanted} processors", "choose x86_64 or arm64")
    if named != machine:
        raise RequirementsError(
            f"the layer is wanted for {wanted}, and this machine is {machine}: a layer is built on the processors that it is for",
            f"build on a machine with {wanted} processors (an EC2 instance of that kind, or a CI runner), or build for this "
            f"one: Architecture={'arm64' if machine == 'aarch64' else machine}",
        )


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def refuse_forbidden(names: Iterable[str]) -> None:
    """Refuse every distribution that a CPU layer must not hold.

    Raises:
        RequirementsError: Naming each of them with the reason.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        for forbidden in FORBIDDEN_DISTRIBUTIONS:
            if re.fullmatch(forbidden.pattern, normalised(name)):
                found.setdefault(forbidden.reason, []).append(name)
    if found:
        listed = "".join(f"\n  {', '.join(of_reason)}: {reason}" for reason, of_reason in found.items())
        raise RequirementsError(
            f"the requirements bring what a Lambda layer cannot use:{listed}",
            f'ask for the CPU build: a version with "+cpu" in requirements.txt (torch=={EXAMPLE_VERSION}), found in {CPU_INDEX}',
        )


def require_known_torch(version: str) -> None:
    """Refuse a torch that no rules were written for.

    Raises:
        RequirementsError: With the versions that are known, and how to build another one all the same.
    """
    minor = ".".join(version.partition("+")[0].split(".")[:2])
    if minor in (known.version for known in KNOWN_TORCH):
        return
    known = ", ".join(f"{each.version}.*" for each in KNOWN_TORCH)
    raise RequirementsError(
        f"the requirements bring torch {version}, and this builder's rules were written for {known}",
        f"pin torch=={EXAMPLE_VERSION} in requirements.txt; or build with --eager-imports, which needs no rules "
        "about torch's modules; or write the rules for it (layers/torch/DESIGN.md, KNOWN_TORCH in builder/stage/policy.py)",
    )
