"""Whether every library of an installed tree can load on the runtime, and next to this tree's torch.

Packages with extensions for torch are often CUDA builds on PyPI (torchvision and torchaudio are). Their libraries need
libcudart or libtorch_cuda, or call functions that only a CUDA build of torch has. On Lambda they fail when they are
imported, or when they are first used; here they are refused before anything else is done with the tree.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from builder.errors import RequirementsError
from builder.stage.needs import Needs, elf_files, needs_of, symbols_of
from builder.stage.policy import CPU_INDEX, MACHINE_NAMES, MACHINES, RuntimePolicy, normalised

GPU_LIBRARIES = re.compile(
    r"lib("
    r"cu(da|dart|dnn|blas|fft|file|rand|solver|sparse|pti)|nv(rtc|jpeg|JitLink|ToolsExt|shmem)|nccl|"  # NVIDIA's
    r"amdhip64|rocblas|hipblas|sycl|"  # AMD's and Intel's
    r"(torch|c10)_(cuda|hip|xpu)"  # torch's own for them
    r")[^/]*\.so[^/]*"
)
"""File names of libraries that a machine without a GPU does not have."""

# Projects that PyTorch's index has CPU builds of, under the same version with "+cpu".
_IN_CPU_INDEX = frozenset({"torch", "torchvision", "torchaudio"})

# Names that only libraries of torch define: C++ names in its namespaces (Itanium ABI), and the functions of its C
# interface.
_TORCH_SYMBOL = re.compile(r"_Z(T[A-Z]|GV)?N?K?(3c10|2at|5torch|6caffe2)|aoti_torch_|torch_")
_TORCH_LIBRARY = re.compile(r"lib(torch|c10)[_a-z]*\.so")


class Problem(NamedTuple):
    """Why one file cannot be loaded."""

    package: str  # name and version
    text: str
    is_gpu_build: bool = False


def require_loadable(tree: Path, owners: Mapping[str, str], runtime: RuntimePolicy, machine: str) -> list[Needs]:
    """Compare every ELF file of an installed tree with the runtime and with the tree's torch, and return what each asks for.

    Args:
        tree: The folder that pip installed into.
        owners: Which distribution (name and version) owns a path relative to `tree`.
        runtime: What the files may ask for.
        machine: `x86_64` or `aarch64`.

    Raises:
        RequirementsError: Naming package, file and reason for everything that could not be loaded there.
    """
    found = [needs_of(path, path.relative_to(tree).as_posix()) for path in elf_files(tree)]
    by_package: dict[str, list[Needs]] = {}
    for needs in found:
        by_package.setdefault(owners.get(needs.path, "no package"), []).append(needs)
    problems: list[Problem] = []
    for package, files in by_package.items():
        of_package = [problem for needs in files for problem in problems_of(needs, package, runtime, machine)]
        problems += of_package or _torch_problems(tree, package, files, found)
    if problems:
        raise RequirementsError(_cause(problems, runtime), _next_step(problems))
    return found


def problems_of(needs: Needs, owner: str, runtime: RuntimePolicy, machine: str) -> list[Problem]:
    """Why one file cannot be loaded on a runtime, without a look at what other files define."""
    return _gpu_problems(needs, owner) or list(_runtime_problems(needs, owner, runtime, machine))


def _gpu_problems(needs: Needs, owner: str) -> list[Problem]:
    name = needs.path.rpartition("/")[2]
    if GPU_LIBRARIES.fullmatch(name):
        return [Problem(owner, f"{needs.path} is a library for a GPU", True)]
    wanted = [library for library in needs.libraries if GPU_LIBRARIES.fullmatch(library)]
    return [Problem(owner, f"{needs.path} needs {', '.join(wanted)}", True)] if wanted else []


def _runtime_problems(needs: Needs, owner: str, runtime: RuntimePolicy, machine: str) -> Iterator[Problem]:
    if needs.machine != MACHINES[machine]:
        yield Problem(owner, f"{needs.path} is for {MACHINE_NAMES.get(needs.machine, needs.machine)}, not {machine}")
    limits = dict(runtime.symbol_versions)
    for namespace, version in needs.versions:
        if namespace in limits and version > limits[namespace]:
            wanted, has = (".".join(map(str, v)) for v in (version, limits[namespace]))
            yield Problem(owner, f"{needs.path} needs {namespace}_{wanted}, and {runtime.name} has {namespace}_{has}")


def _torch_problems(tree: Path, package: str, files: list[Needs], found: list[Needs]) -> list[Problem]:
    """Libraries of a package that call what this torch does not have: built for another version of it, or for a CUDA build."""
    torch = [needs for needs in found if needs.path.startswith("torch/")]
    using = [needs for needs in files if any(_TORCH_LIBRARY.fullmatch(name) for name in needs.libraries)]
    if not torch or not using or files[0] in torch:
        return []
    defined = frozenset[str]().union(*(symbols_of(tree / needs.path, needs.path).defined for needs in (*torch, *files)))
    problems = []
    for needs in using:
        undefined = symbols_of(tree / needs.path, needs.path).undefined
        missing = sorted(name for name in undefined - defined if _TORCH_SYMBOL.match(name))
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            text = f"{needs.path} calls {missing[0]}{more}, which this torch does not have"
            problems.append(Problem(package, text, any(re.search(r"cuda|hip|xpu", name) for name in missing)))
    return problems


def _cause(problems: list[Problem], runtime: RuntimePolicy) -> str:
    lines = [f"{problem.package}: {problem.text}" for problem in problems]
    more = f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
    return f"files that {runtime.name} ({runtime.reason}) cannot load:\n  " + "\n  ".join(lines[:20]) + more


def _next_step(problems: list[Problem]) -> str:
    steps = []
    gpu_builds = sorted({problem.package for problem in problems if problem.is_gpu_build})
    pins, without = [], []
    for package in gpu_builds:
        name, _, version = package.rpartition(" ")
        if normalised(name) in _IN_CPU_INDEX:
            pins.append(f"{name}=={version.partition('+')[0]}+cpu")
        else:
            without.append(package)
    if pins:
        steps.append(f"ask for the CPU build: {', '.join(pins)}, found in {CPU_INDEX}")
    if without:
        steps.append(f"leave {', '.join(without)} out, or pin a version that is built without a GPU")
    if any(not problem.is_gpu_build for problem in problems):
        which = "the other packages" if gpu_builds else "these packages"
        steps.append(f"pin versions of {which} whose wheels are for this torch and processor, manylinux_2_34 or older")
    return "; ".join(steps)
