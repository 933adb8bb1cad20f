"""`lambda-torch serve` as a process: its address, and what it holds (Linux, /proc)."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_torch import project

TALKER = Path(__file__).with_name("talker")


@dataclass(frozen=True)
class ServeRun:
    """A running `lambda-torch serve`."""

    url: str
    process: int

    def tree(self) -> list[int]:
        """Its process and all that descend from it."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        found = [self.process]
        for process in found:
            found += [child for child, parent in parents.items() if parent == process]
        return found

    def cpu_seconds(self, alone: bool = False) -> float:
        """CPU time so far, user and system: of the command and all that it started, or of the command alone."""
        ticks = 0
        for process in [self.process] if alone else self.tree():
            with contextlib.suppress(OSError):
                fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def holds(self) -> dict[str, int]:
        """Processes, threads, open files (sockets too) and resident bytes of all its processes."""
        total = {"processes": 0, "threads": 0, "files": 0, "bytes": 0}
        for process in self.tree():
            folder = Path("/proc", str(process))
            with contextlib.suppress(OSError):
                pages = int((folder / "statm").read_text().split()[1])
                total["threads"] += len(list((folder / "task").iterdir()))
                total["files"] += len(list((folder / "fd").iterdir()))
                total["bytes"] += pages * os.sysconf("SC_PAGE_SIZE")
                total["processes"] += 1
        return total


@contextlib.contextmanager
def serving(*options: str, code: Path | None = None) -> Iterator[ServeRun]:
    """Run `lambda-torch serve` with these options at a free port.

    Args:
        code: the root of another checkout, whose command it is.
    """
    program = [sys.executable, "-c", "from lambda_torch.cli import main; main()", "serve", "--port", "0"]
    path = {"PYTHONPATH": str(code / "tools")} if code is not None else {}
    environment: dict[str, Any] = os.environ | path
    with subprocess.Popen(
        [*program, "--layer", "stock", "--no-reload", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=code or project.ROOT,
    ) as served:
        try:
            assert served.stdout is not None
            line = next((line for line in served.stdout if line.startswith("curl")), None)
            if line is None:
                raise RuntimeError("lambda-torch serve does not start")
            yield ServeRun(shlex.split(line)[-1].removesuffix("/predict"), served.pid)
        finally:
            served.send_signal(signal.SIGINT)
            served.wait()


@contextlib.contextmanager
def talking(scratch: Path, *options: str) -> Iterator[ServeRun]:
    """Serve the model that answers in pieces."""
    release = scratch / "talker"
    release.mkdir()
    (release / "model.json").write_text("{}")
    with serving("--model", str(TALKER), "--release", str(release), *options) as served:
        yield served
