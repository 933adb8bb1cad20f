"""Step 4: run a workload on the staged tree, and note which pages and which modules it touches.

In a copy of the tree no page of a library can be read (`split.prepare_recording`). The recording pager notes each page
at its first touch. `recorder` notes the modules, inside the process. Which kernels run depends on the CPU. So the
workload runs once with each capability that this CPU has, and the profile is the union.
"""

import itertools
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from builder import clean
from builder.errors import BuildError
from builder.native import compile_pager, split
from builder.native.page_set import PageSet
from builder.native.selection import libraries_of
from builder.profile import profiles
from builder.python.deferred.planning import HeldModules
from builder.python.deferred.search import search
from builder.python.tiers import module_name
from builder.stage.prune import link
from torch_layer import SIDE_FILE


class Capability(NamedTuple):
    """One kind of CPU, and the variables that make the libraries inside torch use only what it has."""

    name: str
    flag: str  # in /proc/cpuinfo; "" if every CPU has it
    environment: dict[str, str]


# ATen: aten/src/ATen/native/DispatchStub.cpp. oneDNN: "CPU Dispatcher Control" in its documentation. MKL: "Instruction
# Set Specific Dispatching" in its developer guide. OpenBLAS (NumPy's): OPENBLAS_CORETYPE in its user manual.
CAPABILITIES = {
    "x86_64": (
        # No "default" (SSE): every x86_64 CPU of Lambda has AVX2 ("Using Advanced Vector Extensions 2" in its developer
        # guide), so the kernels for SSE would be 4.4 MB of hot pages that never run. On other CPUs they come in as cold
        # code.
        Capability(
            "avx2",
            "avx2",
            {
                "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                "OPENBLAS_CORETYPE": "Haswell",
            },
        ),
        Capability(
            "avx512",
            "avx512f",
            {
                "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL", "MKL_ENABLE_INSTRUCTIONS": "AVX512",
                "OPENBLAS_CORETYPE": "SkylakeX",
            },
        ),
        # No variable set: the libraries choose for themselves, such as AMX, or MKL's paths for AMD's processors.
        Capability("native", "", {}),
    ),
    "aarch64": (Capability("native", "", {}),),
}  # fmt: skip


class Recorded(NamedTuple):
    """The pages, modules and sources that one command touched."""

    pages: PageSet
    modules: tuple[str, ...]  # names in the order of the imports
    sources: frozenset[str]

    def union(self, other: "Recorded") -> "Recorded":
        """What either touched."""
        return Recorded(
            self.pages.union(other.pages),
            tuple(dict.fromkeys([*self.modules, *other.modules])),
            self.sources | other.sources,
        )


# For a person who waits. The step "record" (`report.json`) took 397 s for CPython 3.12 on two cores with other work. A search
# that begins from nothing takes longer.
MINUTES = 10

PROCESSOR = Path("/proc/cpuinfo")
# What decides, beside its capabilities, which kernels of MKL run: Intel's processors have paths of their own. (`vendor_id` in
# /proc/cpuinfo, arch/x86/kernel/cpu of Linux's sources.)
MAKERS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}

NOTHING = Recorded(PageSet(), (), frozenset())


def capabilities(machine: str) -> list[Capability]:
    """The capabilities that this CPU has."""
    flags = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", PROCESSOR.read_text(), re.M)[0].split())
    return [capability for capability in CAPABILITIES[machine] if not capability.flag or capability.flag in flags]


def maker() -> str:
    """Who made this processor: a value of MAKERS, or "other", for which a recording has no name of its own."""
    found = re.search(r"^vendor_id\s*:\s*(\S+)$", PROCESSOR.read_text(), re.M)
    return MAKERS.get(found[1], "other") if found else "other"


def workload_name() -> str:
    """What a recording of the shipped workload on this processor is called in its file's name."""
    made_by = maker()
    return "workload" if made_by == "other" else f"workload-{made_by}"


class RecordingTree:
    """A copy of the staged tree in which every touch is noted. A context manager, which removes the copy at the end."""

    def __init__(self, staged: Path, work: Path) -> None:
        self._staged, self._work = staged, work

    def __enter__(self) -> "RecordingTree":
        self._scratch = Path(tempfile.mkdtemp(prefix="recording-", dir=self._work))
        try:
            self.tree = self._scratch / "python"
            for path in self._staged.rglob("*"):
                if path.is_file():
                    target = self.tree / path.relative_to(self._staged)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link(path, target)
            folder = self.tree / "torch_layer"
            folder.mkdir()
            compile_pager.build_pager(folder / compile_pager.PAGER_NAME, arch=platform.machine(), recording=True)
            plans = dict.fromkeys(libraries_of(self.tree), split.LibraryPlan())
            split.prepare_recording(plans, self.tree, folder / SIDE_FILE)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, command: Sequence[str], environment: dict[str, str], *, extra_path: Sequence[Path] = ()) -> Recorded:
        """Run `python -m builder.profile.recorder OUTPUT <command>` on the tree.

        Args:
            command: `-m module arguments` or `file arguments`, as after `python`.
            environment: Variables on top of a clean environment.
            extra_path: Folders after the tree on the path, such as the function's code.

        Raises:
            BuildError: The command fails; the message has the last lines that it printed.
        """
        pages, notes = self._scratch / "pages.txt", self._scratch / "modules.txt"
        pages.unlink(missing_ok=True)
        notes.unlink(missing_ok=True)
        variables = {
            "TORCH_LAYER_PAGER_RECORD": str(pages),
            # Bytecode goes into a folder of its own: the tree stays as it is, and the next run need not compile again.
            "PYTHONPYCACHEPREFIX": str(self._work / "bytecode"),
            **environment,
        }
        with clean.environment(self.tree, variables) as complete:
            complete["PYTHONPATH"] += "".join(f":{folder}" for folder in extra_path)
            complete.pop("PYTHONDONTWRITEBYTECODE")
            done = subprocess.run(
                [sys.executable, "-S", "-P", "-s", "-m", "builder.profile.recorder", str(notes), *command],
                env=complete, capture_output=True, text=True, check=False, timeout=1800,
            )  # fmt: skip
        if done.returncode or not notes.is_file() or not pages.is_file():
            raise BuildError(
                f"recording `{' '.join(command)}` failed with status {done.returncode}:\n"
                + (done.stdout + done.stderr)[-4000:],
                "run it on the staged tree by hand, and see why it fails",
            )
        lines = [line.split(" ", 1) for line in notes.read_text(encoding="utf-8").splitlines()]
        return Recorded(
            PageSet.from_record(pages),
            tuple(dict.fromkeys(module_name(path) for kind, path in lines if kind == "module")),
            frozenset(path for kind, path in lines if kind == "source"),
        )


def record_workload(
    staged: Path,
    work: Path,
    target: profiles.Target,
    progress: Callable[[str], None] = lambda _text: None,
    known: HeldModules = HeldModules(),  # noqa: B008 -- a tuple
) -> profiles.Profile:
    """The profile of the shipped workload. Modules that only the checks of code outside the workload import are warm.

    The profile also says which modules can wait, since that depends on the same wheels and on the same workload.

    Args:
        staged: The tree after strip.
        work: A folder for scratch files.
        target: What the tree is.
        progress: Called with a line of text as each part starts.
        known: What was found for the same versions on another Python: the search begins there.
    """
    parts = len(capabilities(target.machine)) + 2
    with RecordingTree(staged, work) as tree:
        hot, names = _under_each_capability(tree, ["-m", "builder.workload"], {}, [], _counted(progress, parts))
        progress(f"{parts - 1} of {parts}: find the modules of code that the workload does not touch")
        with tempfile.TemporaryDirectory(dir=work) as outputs:
            warm = tree.run(["-m", "builder.cold_checks", "--output", outputs], {})
    held = search(staged, work, lambda text: progress(f"{parts} of {parts}: {text}"), known.running)
    return replace(_profile(target, names, hot, warm.modules), held=held)


def _counted(progress: Callable[[str], None], parts: int) -> Callable[[str], None]:
    """Progress whose lines begin with their number."""
    numbers = itertools.count(1)
    return lambda text: progress(f"{next(numbers)} of {parts}: {text}")


def what_it_takes(target: profiles.Target) -> str:
    """What recording is about to do, and for how long, as one sentence."""
    versions = " and ".join(f"{name} {version}" for name, version in sorted(target.versions.items(), reverse=True))
    kinds = ", ".join(capability.name for capability in capabilities(target.machine))
    return (
        f"no recorded profile fits these builds of {versions} on {target.python}, {target.machine}. So the build runs a "
        f"workload for each kind of CPU ({kinds}), and tries which modules can wait. That takes about {MINUTES} minutes on "
        "two cores, and only once: the profile is kept."
    )


def record_command(
    staged: Path,
    work: Path,
    target: profiles.Target,
    command: Sequence[str],
    environment: dict[str, str],
    extra_path: Sequence[Path],
    progress: Callable[[str], None] = lambda _text: None,
) -> profiles.Profile:
    """The profile of any program: a user's own model. The arguments are those of `RecordingTree.run`."""
    with RecordingTree(staged, work) as tree:
        hot, names = _under_each_capability(tree, command, environment, extra_path, progress)
    return _profile(target, names, hot, ())


def _under_each_capability(
    tree: RecordingTree,
    command: Sequence[str],
    environment: dict[str, str],
    extra_path: Sequence[Path],
    progress: Callable[[str], None],
) -> tuple[Recorded, list[str]]:
    found, names = NOTHING, []
    for capability in capabilities(platform.machine()):
        progress(
            f"run the workload as on a CPU with {capability.name}"
            if capability.environment
            else "run the workload as this CPU is"
        )
        found = found.union(tree.run(command, {**environment, **capability.environment}, extra_path=extra_path))
        names.append(capability.name)
    return found, names


def _profile(target: profiles.Target, names: Sequence[str], hot: Recorded, warm: Iterable[str]) -> profiles.Profile:
    return profiles.Profile(
        versions=dict(target.versions),
        python=target.python,
        machine=target.machine,
        libraries=dict(target.libraries),
        capabilities=tuple(sorted(names)),
        hot=hot.modules,
        warm=frozenset(warm).difference(hot.modules),
        sources=hot.sources,
        pages=hot.pages,
    )
