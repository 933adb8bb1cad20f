"""What a start and a request cost, phase by phase: for the log, the metrics and the header `Server-Timing`.

A receipt is a list of phases. Each has its name, when it began, how long it took, and the CPU time of its thread. Code
deep inside marks a phase with `with phase("fetch"):`. It need not know which receipt is open: a start's, a request's,
or none.

Phases of a start may overlap (the release is fetched while torch is imported), and one may contain another (`dlopen` is
part of `torch`). So they do not add up to the total.
"""

import contextvars
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from serving.telemetry import imports

# Every phase: its name, a token of RFC 9110 since it stands in Server-Timing, and its description for people. A
# description has no comma, since many readers of such headers split at each comma.
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
    "try": "load a release with programs in another process",
    "load": "build the model",
    "warm-up": "answer the golden examples or one request",
    "restore": "reseed and look at the channel after a snapshot was restored",
}
REQUEST_PHASES = {
    "parse": "read and validate the request",
    "predict": "the model",
    "total": "the whole request inside the function",
}

_NO_DESCRIPTIONS: Mapping[str, str] = {}


class Phase(NamedTuple):
    """A stretch of time. `at` counts from the receipt's origin; `cpu` is the CPU time of the thread. All are in ns."""

    name: str
    at: int
    took: int
    cpu: int


class Receipt:
    """The phases of one start, swap or request. Several threads may add phases.

    Args:
        origin: what `at` counts from, on `time.perf_counter_ns`; by default now.
        cpu: whether to take CPU time as well, which costs a system call at both ends of a phase.
    """

    def __init__(self, origin: int | None = None, *, cpu: bool = False) -> None:
        self.origin = time.perf_counter_ns() if origin is None else origin
        self.phases: list[Phase] = []
        self._clock = time.thread_time_ns if cpu else _no_time

    def phase(self, name: str) -> "_Timer":
        """Times the body of a `with` statement, also when the body raises."""
        return _Timer(self, name, self._clock)

    def rounded(self) -> dict[str, float]:
        """Each phase's milliseconds, in the order in which the phases ended, for the log."""
        # In whole microseconds: `round` takes longer, and this runs with every request.
        return {name: (took + 500) // 1000 / 1000 for name, took in _added(self.phases).items()}

    def so_far(self) -> float:
        """Milliseconds since the origin."""
        return (time.perf_counter_ns() - self.origin) / 1e6

    def summary(self) -> dict[str, dict[str, float]]:
        """For the log: phase to `at`, `ms` and `cpu_ms`, in the order in which they began.

        Phases of one name are added up.
        """
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
        """While the body of this `with` statement runs, `phase` adds to this receipt in this thread."""
        return _Recording(self)


_open: contextvars.ContextVar[Receipt | None] = contextvars.ContextVar("receipt", default=None)


def phase(name: str) -> "_Timer | _NoTimer":
    """Times the body of a `with` statement for the receipt that is open in this thread. Without one it does nothing."""
    receipt = _open.get()
    return _NO_TIMER if receipt is None else receipt.phase(name)


# These are classes since they run with every request: a generator with `contextmanager` takes longer.
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


class _NoTimer:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NO_TIMER = _NoTimer()


def _no_time() -> int:
    return 0


class Start(Receipt):
    """The receipt of a start, or of the return from a snapshot. `ready` ends it.

    Attributes:
        total: milliseconds from the origin until `ready`; 0 before that.
        cpu: CPU milliseconds of the whole process in that time.
    """

    def __init__(self, origin: int | None = None) -> None:
        super().__init__(origin, cpu=True)
        self.total = self.cpu = 0.0
        self._cpu_before = time.process_time_ns()
        self._imports: imports.ImportClock | None = None

    @classmethod
    def of_process(cls) -> Self:
        """The receipt of this process.

        Its first phase is what came before this call; imports are timed from here on.
        """
        now = time.perf_counter_ns()
        start = cls(now - _age_of_process())
        start.phases.append(Phase("runtime", 0, now - start.origin, start._cpu_before))
        start._cpu_before = 0
        start._imports = imports.ImportClock(start.phase, imports.TIMED_IMPORTS)
        start._imports.begin()
        return start

    def ready(self) -> None:
        """The function can answer its first event."""
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


def server_timing(phases: Mapping[str, float], descriptions: Mapping[str, str] = _NO_DESCRIPTIONS) -> str:
    """The header's value (https://www.w3.org/TR/server-timing/): each phase with its milliseconds and description."""
    return ", ".join(
        [
            f'{name};dur={ms:.3f};desc="{descriptions[name]}"' if name in descriptions else f"{name};dur={ms:.3f}"
            for name, ms in phases.items()
        ]
    )


def _added(phases: Iterable[Phase]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, _, took, _ in phases:
        sums[name] = sums.get(name, 0) + took
    return sums


def _age_of_process() -> int:
    """Nanoseconds since this process began (proc(5), /proc/self/stat, field 22); 0 where the system does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 -- pathlib is not imported at start-up
            # The second field, the command's name, may contain anything, so count from the closing bracket.
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        began = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def _peak_bytes() -> int:
    """The largest resident set of this process so far (proc(5), VmHWM); 0 where the system does not say."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123
            line = next(each for each in file if each.startswith(b"VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
