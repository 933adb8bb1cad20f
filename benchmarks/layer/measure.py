"""Measures one cold start in a process of its own: `import torch` and the forward pass of an LSTM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

# The process reads these figures itself. The kernel counts storage by process, and wait4's peak includes the parent's
# (https://man7.org/linux/man-pages/man2/getrusage.2.html, ru_maxrss survives execve).
PROGRAM = """
import torch
lstm = torch.nn.LSTM(64, 128)
with torch.inference_mode():
    output = lstm(torch.ones(10, 1, 64))[0]
assert output.shape == (10, 1, 128)
with open("/proc/self/io") as io, open("/proc/self/status") as status:
    values = dict(line.split(":", 1) for line in (io.read() + status.read()).splitlines())
print(int(values["read_bytes"]), int(values["VmHWM"].split()[0]) * 1024)
"""
DROP = Path("/proc/sys/vm/drop_caches")


class Start(NamedTuple):
    """The cost of one start."""

    cpu_seconds: float  # user and system, children included
    wall_seconds: float
    peak_bytes: int  # largest resident set
    read_bytes: int  # from storage; 0 if all was in the page cache


def start(tree: Path, prelude: str, variables: Mapping[str, str] = MappingProxyType({})) -> Start:
    """Start a process that has only `tree` on its path, as Lambda has /opt/python, and wait for its end.

    Args:
        tree: The folder of packages.
        prelude: Python that runs before torch is imported.
        variables: Added to the environment.

    Raises:
        RuntimeError: The process failed. The message has the end of its output.
    """
    scratch = tempfile.mkdtemp(prefix="layer-bench-")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",  # /opt is read-only
        "OMP_NUM_THREADS": "1",
        "TMPDIR": scratch,
        **variables,
    }
    command = [sys.executable, "-S", "-P", "-s", "-c", prelude + PROGRAM]
    try:
        begin = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said, complained = process.stdout.read(), process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        shutil.rmtree(scratch)
    if process.returncode:
        raise RuntimeError(f"{tree} ended with {process.returncode}: {complained.decode()[-2000:]}")
    read, peak = (int(number) for number in said.split())
    return Start(usage.ru_utime + usage.ru_stime, wall, peak, read)


def drop_page_cache() -> str:
    """Make the kernel drop all file contents that it holds. Returns the reason if it cannot, else an empty text."""
    os.sync()
    try:
        DROP.write_text("3")
    except OSError as error:
        return f"the page cache cannot be dropped here: {error}"
    return ""
