"""A release with programs is tried in a process of its own first: what crashes there is refused, and the running model
is untouched.

The process is a new one and not a fork. A fork has the locks of the parent's threads, but not the threads: the thread
that follows the channel forks while others hold OpenMP's pool, the allocator or an import lock, and the child then waits
for ever. A new process has its own imports to do, which only releases with programs pay.

It has limits on memory, CPU time, files and time in all, no credentials in its environment, and may not write files,
open sockets or start programs. It compares what torch read with the tables of operators (`programs.seen`), loads the
model, and lets it answer the golden examples.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from serving.errors import ServingError
from serving.releases.reading import PreparedRelease
from serving.storage.deadline import TICK_SECONDS, Deadline

# What a model needs while it is loaded, beside what is in its files, and what it needs at least.
WORKING_BYTES: Final = 512 * 1024 * 1024
_LONGEST_REPORT: Final = 2_000
_START: Final = (
    "import json, sys; facts = json.loads(sys.stdin.read()); sys.path[:] = facts.pop('path'); "
    "from serving.releases.probe_process import main; main(facts)"
)


class ProbeError(ServingError):
    """A release with programs did not get through its trial. The message says what happened."""


@dataclass(frozen=True)
class ProbeLimits:
    """What the process may use once torch and the model's code are imported.

    Attributes:
        bytes: more address space, in bytes.
        seconds: time in all, and CPU time of all threads together. Time in which Lambda freezes the environment does
            not count.
        files: open files at a time.
    """

    bytes: int
    seconds: float
    files: int = 256


def check(
    prepared: PreparedRelease,
    classes: Mapping[str, type[Any]],
    limits: ProbeLimits,
    environment: Mapping[str, str],
) -> None:
    """Try a release: load it, and let it answer its golden examples or the model's own example.

    Args:
        prepared: the release.
        classes: `Model` and `Request` of `src/model`; they are imported again by name.
        limits: what it may use.
        environment: the process's variables; no credentials.

    Raises:
        ProbeError: it crashed, ran into a limit, or was refused; the message says which.
    """
    facts = {
        "path": sys.path,
        "folder": str(prepared.folder.absolute()),
        "programs": {name: entry.format for name, entry in prepared.manifest.files.items() if entry.format is not None},
        "golden": [example.model_dump(mode="json") for example in prepared.manifest.golden],
        "classes": {role: [each.__module__, each.__qualname__] for role, each in classes.items()},
        "limits": {**asdict(limits), "files": limits.files + len(prepared.descriptors)},
    }
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        # The folder's links lead to files in memory by the numbers of these.
        pass_fds=prepared.descriptors,
        start_new_session=True,
    )
    with process:
        try:
            report = _report(process, json.dumps(facts).encode(), Deadline(limits.seconds))
        except TimeoutError:
            raise ProbeError(f"it was not ready after {limits.seconds:g} seconds") from None
        finally:
            process.kill()
    if process.returncode < 0:
        raise ProbeError(f"the process that tried it was ended by {_signal(-process.returncode)}")
    answer = _answer(report)
    if process.returncode != 0 or answer is None:
        raise ProbeError(f"the process that tried it ended with status {process.returncode} and without a word")
    if answer:
        raise ProbeError(answer)


def _report(process: "subprocess.Popen[bytes]", facts: bytes, deadline: Deadline) -> bytes:
    """What the process writes until it ends. Raises TimeoutError where it does not end in time."""
    unsent: bytes | None = facts
    while True:
        try:
            return process.communicate(unsent, timeout=deadline.wait(TICK_SECONDS))[0]
        except subprocess.TimeoutExpired:
            unsent = None  # it is kept, and the next call goes on with it


def _answer(report: bytes) -> str | None:
    """The reason that the process gives for a refusal; empty where all is well, None where it gave none."""
    try:
        answer = json.loads(report)["refused"]
    except (ValueError, KeyError, TypeError):
        return None
    return answer[:_LONGEST_REPORT] if isinstance(answer, str) else None


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return {
        "SIGXCPU": "SIGXCPU: it used more CPU time than it may",
        "SIGKILL": "SIGKILL: it used more memory or time than there is",
        "SIGXFSZ": "SIGXFSZ: it tried to write a file",
    }.get(name, name)
