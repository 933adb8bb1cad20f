"""What a start and a request cost, phase by phase: for the log, the metrics and the header `Server-Timing`.

A receipt is a list of phases, each with its name, when it began, how long it took, and the CPU time of its thread. Code deep
inside marks a phase with `with phase("fetch"):` and need not know whose receipt is open: a start's, a request's, or nobody's.

Phases of a start may overlap (the release is fetched while torch is imported) and contain others (`dlopen` is part of
`torch`), so they do not add up to its total.
"""

import contextvars
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Protocol, Self

# Every phase that there is: its name, a token of RFC 9110 since it stands in Server-Timing, and what it says to people. The
# words have no comma, since many readers of such headers split at each.
START_PHASES = {
    "runtime": "from the start of the process to the handler's first line",
    "pydantic": "import pydantic",
    "boto3": "import boto3",
    "torch": "import torch",
    "dlopen": "load torch's libraries (part of torch)",
    "numpy": "import numpy (part of what imports it)",
    "model": "import the model folder (torch included)",
    "client": "make the S3 client",
    "pointer": "read the channel and the manifest",
    "fetch": "fetch and hash the release",
    "verify": "look at every file before it is opened",
    "load": "build the model",
    "warm-up": "answer the golden examples or one request",
    "restore": "reseed and look at the channel after a snapshot was restored",
}
REQUEST_PHASES = {
    "parse": "read and validate the request",
    "predict": "the model",
    "total": "the whole request inside the function",
}
# Imports that are phases of a start, by module.
TIMED_IMPORTS = {
    "pydantic": "pydantic",
    "boto3": "boto3",
    "torch": "torch",
    "torch._C": "dlopen",
    "numpy": "numpy",
    "model": "model",
}


_NO_WORDS: Mapping[str, str] = {}


class Phase(NamedTuple):
    """A stretch of time. `at` counts from the receipt's origin; `cpu` is the CPU time of the thread. All in ns."""

    name: str
    at: int
    took: int
    cpu: int


class Receipt:
    """The phases of one start, swap or request. Phases may be added by several threads.

    Args:
        origin: what `at` counts from, on `time.perf_counter_ns`.
        cpu: whether CPU time is taken as well, which costs a system call at either end of a phase.
    """

    def __init__(self, origin: int | None = None, *, cpu: bool = False) -> None:
        self.origin = time.perf_counter_ns() if origin is None else origin
        self.phases: list[Phase] = []
        self._clock = time.thread_time_ns if cpu else _no_time

    def phase(self, name: str) -> "_Timer":
        """Times the body of a `with` statement, also when it raises."""
        return _Timer(self, name, self._clock)

    def milliseconds(self, name: str) -> float:
        """All phases of this name together."""
        return sum(each.took for each in self.phases if each.name == name) / 1e6

    def rounded(self) -> dict[str, float]:
        """Each phase's milliseconds, in the order in which they ended, for the log."""
        # By whole microseconds: `round` takes five times as long, and this runs with every request.
        return {name: (took + 500) // 1000 / 1000 for name, took in _added(self.phases).items()}

    def so_far(self) -> float:
        """Milliseconds since the origin."""
        return (time.perf_counter_ns() - self.origin) / 1e6

    def summary(self) -> dict[str, dict[str, float]]:
        """For the log: phase to `at`, `ms` and `cpu_ms`, in the order in which they began; phases of one name are added up."""
        found: dict[str, list[int]] = {}
        for name, at, took, cpu in sorted(self.phases, key=lambda each: each.at):
            sums = found.setdefault(name, [at, 0, 0])
            sums[1] += took
            sums[2] += cpu
        return {
            name: {"at": round(at / 1e6, 1), "ms": round(took / 1e6, 1), "cpu_ms": round(cpu / 1e6, 1)}
            for name, (at, took, cpu) in found.items()
        }

    def recording(self) -> "_Recording":
        """While the body of this `with` statement runs, in this thread, `phase` adds to this receipt."""
        return _Recording(self)


class _Span(Protocol):
    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


_open: contextvars.ContextVar[Receipt | None] = contextvars.ContextVar("receipt", default=None)


def phase(name: str) -> _Span:
    """Times the body of a `with` statement for the receipt that is open in this thread; for none, it does nothing."""
    receipt = _open.get()
    return _NOBODY if receipt is None else receipt.phase(name)


# Classes and not generators: they run with every request, and a generator takes four times as long.
class _Timer:
    __slots__ = ("_at", "_clock", "_cpu", "_name", "_receipt")

    def __init__(self, receipt: Receipt, name: str, clock: Any) -> None:
        self._receipt, self._name, self._clock = receipt, name, clock

    def __enter__(self) -> None:
        self._cpu = self._clock()
        self._at = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        took, cpu = time.perf_counter_ns() - self._at, self._clock() - self._cpu
        self._receipt.phases.append(Phase(self._name, self._at - self._receipt.origin, took, cpu))


class _Recording:
    __slots__ = ("_receipt", "_token")

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt

    def __enter__(self) -> None:
        self._token = _open.set(self._receipt)

    def __exit__(self, *_: object) -> None:
        _open.reset(self._token)


class _Nobody:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NOBODY = _Nobody()


def _no_time() -> int:
    return 0


class Start(Receipt):
    """The receipt of a start, or of the return from a snapshot; `ready` ends it.

    Attributes:
        total: milliseconds from the origin until `ready`; 0 before.
        cpu: CPU milliseconds of the whole process in that time.
    """

    def __init__(self, origin: int | None = None) -> None:
        super().__init__(origin, cpu=True)
        self.total = self.cpu = 0.0
        self._cpu_before = time.process_time_ns()
        self._imports: _ImportClock | None = None

    @classmethod
    def of_process(cls) -> Self:
        """The receipt of this process: its first phase is what was before this call, and imports from here on are timed."""
        now = time.perf_counter_ns()
        start = cls(now - _age_of_process())
        start.phases.append(Phase("runtime", 0, now - start.origin, start._cpu_before))
        start._cpu_before = 0
        start._imports = _ImportClock(start, TIMED_IMPORTS)
        sys.meta_path.insert(0, start._imports)
        return start

    def ready(self) -> None:
        """The first event can be answered."""
        if self._imports is not None:
            self._imports.end()
        self.total, self.cpu = self.so_far(), (time.process_time_ns() - self._cpu_before) / 1e6

    def facts(self) -> dict[str, Any]:
        """The receipt as the log has it."""
        return {
            "ms": round(self.total, 1),
            "cpu_ms": round(self.cpu, 1),
            "peak_bytes": _peak_bytes(),
            "modules": len(sys.modules),
            "phases": self.summary(),
        }


class _ImportClock:
    """A meta path finder that finds nothing by itself: it lets the others find the modules it knows, and times their loading."""

    def __init__(self, receipt: Receipt, names: dict[str, str]) -> None:
        self._receipt = receipt
        self._waiting = dict(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = self._waiting.pop(fullname, None)
        if name is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._time(spec.loader, name)
                return spec
        return None

    def _time(self, loader: Any, name: str) -> None:
        """Let this one loader tell when it starts and ends. An extension module is loaded by `create_module`, so both count."""
        receipt, create, execute = self._receipt, loader.create_module, loader.exec_module

        def timed_create(spec: ModuleSpec) -> Any:
            with receipt.phase(name):
                return create(spec)

        def timed_execute(module: ModuleType) -> None:
            # The loader is the module's own from here on, as if nobody had touched it.
            del loader.create_module, loader.exec_module
            with receipt.phase(name):
                execute(module)

        loader.create_module, loader.exec_module = timed_create, timed_execute

    def end(self) -> None:
        """Leave the import system."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)


class Pager(NamedTuple):
    """What the layer's pager did so far in this process: cold code that was touched and brought in."""

    faults: int
    bytes: int
    microseconds: int


def pager() -> Pager | None:
    """The pager's counters; None on a torch that did not come from the layer."""
    if "torch_layer" not in sys.modules:
        return None
    from torch_layer.pager import stats

    found = stats()
    return Pager(found.faults, found.bytes, found.microseconds)


class CompletedImport(NamedTuple):
    """What made the layer run the modules of torch that it holds back until one of them is touched."""

    by: str
    milliseconds: float


def completed_import() -> CompletedImport | None:
    """What completed the layer's import of torch; None while nothing has, and on a torch that did not come from the layer."""
    finder = sys.modules.get("torch_layer.finder")
    if finder is None:
        return None
    found = finder.imports()
    return (
        CompletedImport(found.reason, round(found.microseconds / 1e3, 1)) if found.complete and found.reason else None
    )


def server_timing(phases: Mapping[str, float], words: Mapping[str, str] = _NO_WORDS) -> str:
    """The value of the header (https://www.w3.org/TR/server-timing/): each phase with its milliseconds, and its words, if any."""
    return ", ".join(
        [
            f'{name};dur={ms:.3f};desc="{words[name]}"' if name in words else f"{name};dur={ms:.3f}"
            for name, ms in phases.items()
        ]
    )


def _added(phases: Iterable[Phase]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, _, took, _ in phases:
        sums[name] = sums.get(name, 0) + took
    return sums


def _age_of_process() -> int:
    """Nanoseconds since this process was started (proc(5), /proc/self/stat, field 22); 0 where the system does not tell."""
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 -- pathlib is not imported at start-up
            # The second field, the command's name, may contain anything, so count from the closing bracket.
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        began = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def _peak_bytes() -> int:
    """The largest resident set of this process so far (proc(5), VmHWM); 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123
            line = next(each for each in file if each.startswith(b"VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
