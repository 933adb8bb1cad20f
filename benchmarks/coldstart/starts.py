"""Measures one first answer: in the test box where the machine allows it, else under Lambda's emulator alone."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.coldstart.candidates import Candidate
from lambda_torch import project, testbox
from lambda_torch.emulator import software
from lambda_torch.emulator.function import Function, InvokeResult
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.rie_environment import RieEnvironment
from lambda_torch.testbox.box import Box
from lambda_torch.testbox.rootfs import Rootfs

HANDLER = "entry.handler"
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Start:
    """The cost of one start, up to its first answer.

    Attributes:
        wall_s: seconds from sending the event, which starts the process, to the answer.
        cpu_s: seconds of user and system time of the process.
        read_bytes: bytes that the process read from storage.
        peak_rss_bytes: the largest resident set.
        answer: the answer's JSON.
        phases: milliseconds of each phase, in the order of time. They add up to `wall_s`.
    """

    wall_s: float
    cpu_s: float
    read_bytes: int
    peak_rss_bytes: int
    answer: Any
    phases: dict[str, float]


class Runner(Protocol):
    """Runs one start."""

    def __call__(self, candidate: Candidate, event: Any, memory_mb: int, variables: Mapping[str, str]) -> Start:
        """Start a new process of the candidate's function, and send it one event."""
        ...


class _Files(Rootfs):
    """A box that uses the files in their place, without a copy, because their dates are right."""

    def __init__(self, candidate: Candidate, runtime: Path, emulator: Path) -> None:
        self.folder = candidate.task
        self.task, self.opt, self.runtime, self.emulator = candidate.task, candidate.opt, runtime, emulator


@contextlib.contextmanager
def runner(scratch: Path) -> Iterator[tuple[Runner, str]]:
    """Give a function that runs one start on this machine, and words that say where it runs."""
    reason = testbox.why_not()
    if reason is None:
        # Lambda's own packages, and the bootstrap that gives `sys.path` Lambda's order.
        with Rootfs(_empty(scratch / "task"), None, scratch) as files:
            yield _in_box(files), "in the test box, with Lambda's limits of memory and CPU"
        return
    with Processes() as processes:
        yield _in_emulator(processes, scratch), f"under Lambda's emulator, without limits ({reason})"


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _in_box(files: Rootfs) -> Runner:
    def run(candidate: Candidate, event: Any, memory_mb: int, variables: Mapping[str, str]) -> Start:
        rootfs = _Files(candidate, files.runtime, files.emulator)
        options: dict[str, Any] = {"memory_mb": memory_mb, "timeout_seconds": TIMEOUT_SECONDS, "variables": variables}
        with Box(rootfs, HANDLER, **options) as box:
            return _timed(candidate, event, box.invoke, box.log)

    return run


def _in_emulator(processes: Processes, scratch: Path) -> Runner:
    runtime = software.with_layer(project.LAYER, print).folders[-1]

    def run(candidate: Candidate, event: Any, memory_mb: int, variables: Mapping[str, str]) -> Start:
        tree = candidate.opt / "python"
        function = Function(
            candidate.task,
            HANDLER,
            software.Software(candidate.title, (tree, runtime), candidate.opt),
            memory_mb=memory_mb,
            timeout_seconds=TIMEOUT_SECONDS,
            variables={**variables, "COLDSTART_TREE": str(tree)},
        )
        environment = RieEnvironment(function, processes, scratch, candidate.name)
        try:
            return _timed(candidate, event, environment.invoke, environment.log_tail)
        finally:
            environment.stop()

    return run


class _Invoke(Protocol):
    def __call__(self, event: bytes, /) -> InvokeResult: ...


class _Log(Protocol):
    def __call__(self) -> str: ...


def _timed(candidate: Candidate, event: Any, invoke: _Invoke, log: _Log) -> Start:
    began = time.perf_counter()
    outcome = invoke(json.dumps(event).encode())
    wall = time.perf_counter() - began
    answer = json.loads(outcome.payload)
    if outcome.failed or answer.get("statusCode") != 200:
        raise RuntimeError(f"{candidate.name} did not answer: {outcome.payload.decode()[:1000]}\n{log()[-3000:]}")
    measured = json.loads(answer["headers"]["X-Measured"])
    return Start(
        wall,
        measured["cpu_s"],
        measured["read_bytes"],
        measured["peak_rss_bytes"],
        json.loads(answer["body"]),
        _phases(measured, wall * 1e3),
    )


def _phases(measured: Mapping[str, Any], wall_ms: float) -> dict[str, float]:
    """The receipt as phases that follow each other. Time in which two phases overlap counts once."""
    phases = measured["start"]["phases"]

    def took(name: str) -> float:
        return float(phases.get(name, {"ms": 0.0})["ms"])

    def end(name: str) -> float:
        return float(phases[name]["at"]) + took(name)

    # Where the start gave up waiting for the release, as on a busy machine, the request has loaded it.
    load = phases.get("load")
    waited = 0.0 if load is None else max(0.0, load["at"] - end("model"))
    request = next(part for part in measured["timing"].split(", ") if part.startswith("total;"))
    found = {
        "unpack": measured["unpacking_ms"],
        "Python and the runtime client": took("runtime") - measured["unpacking_ms"],
        "the function's imports": phases["model"]["at"] - end("runtime"),
        "load torch's libraries": took("dlopen"),
        "import the rest of torch, and the model": took("model") - took("dlopen"),
        "wait for the release": waited,
        "build and warm up the model": took("load") + took("warm-up"),
        "the request": float(request.split(";")[1].removeprefix("dur=")),
    }
    # The rest is the emulator's time: it starts the process, and passes the event and the answer on.
    return found | {"Lambda's emulator": max(0.0, wall_ms - sum(found.values()))}
