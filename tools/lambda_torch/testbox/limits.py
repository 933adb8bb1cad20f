"""The memory and CPU of a test box: Lambda's rules, set with control groups.

"Configure Lambda function memory": CPU is in proportion to memory, with one vCPU at 1,769 MB.
"""

import contextlib
import os
import time
import uuid
from pathlib import Path
from typing import Self

from lambda_torch.errors import BoxError

ROOT = Path("/sys/fs/cgroup")
MB_PER_VCPU = 1769
PERIOD_US = 100_000


def cpu_quota_us(memory_mb: int) -> int:
    """Microseconds of CPU in each period of 100 ms.

    >>> cpu_quota_us(1769)
    100000
    """
    return memory_mb * PERIOD_US // MB_PER_VCPU


class Limits:
    """The control group of one box, as a context manager that removes it.

    Raises:
        BoxError: this user may not make control groups, or the machine has no control groups for memory or CPU.
    """

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        name = f"lambda-torch-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._version = 2 if (ROOT / "cgroup.controllers").exists() else 1
        if self._version == 2:
            self._memory = self._cpu = ROOT / name
        else:
            self._memory, self._cpu = ROOT / "memory" / name, ROOT / "cpu" / name

    def __enter__(self) -> Self:
        """Make the group."""
        try:
            if self._version == 2:
                (ROOT / "cgroup.subtree_control").write_text("+memory +cpu")
            for folder in dict.fromkeys((self._memory, self._cpu)):
                folder.mkdir()
            self._set()
        except OSError as error:
            self._remove()
            raise BoxError(
                f"A test box needs control groups, and this machine or user cannot make them: {error}. "
                "Next: run it as root, on Linux with the memory and cpu controllers in /sys/fs/cgroup."
            ) from error
        return self

    def _set(self) -> None:
        memory = self.memory_mb * 1024 * 1024
        if self._version == 2:
            (self._memory / "memory.max").write_text(str(memory))
            (self._memory / "memory.oom.group").write_text("1")
            (self._cpu / "cpu.max").write_text(f"{cpu_quota_us(self.memory_mb)} {PERIOD_US}")
            swap = self._memory / "memory.swap.max"
        else:
            (self._memory / "memory.limit_in_bytes").write_text(str(memory))
            (self._cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._cpu / "cpu.cfs_quota_us").write_text(str(cpu_quota_us(self.memory_mb)))
            swap = self._memory / "memory.memsw.limit_in_bytes"
        if swap.exists():  # Lambda has no swap. If this machine has none either, the file does not exist
            swap.write_text("0" if self._version == 2 else str(memory))

    def __exit__(self, *_: object) -> None:
        """Remove the group."""
        self._remove()

    def _remove(self) -> None:
        for folder in dict.fromkeys((self._memory, self._cpu)):
            # A group can be removed after its last process, which the kernel removes shortly after it ended.
            for _ in range(100):
                if not folder.exists():
                    break
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.02)

    def joining(self) -> list[str]:
        """The start of a command line: a shell that enters the group and then becomes the command that follows."""
        files = " ".join(str(folder / "cgroup.procs") for folder in dict.fromkeys((self._memory, self._cpu)))
        return ["/bin/sh", "-c", f'for file in {files}; do echo $$ >"$file" || exit 1; done; exec "$@"', "sh"]

    def peak_bytes(self) -> int:
        """The most memory that was in use at a time, page cache included."""
        return int((self._memory / ("memory.peak" if self._version == 2 else "memory.max_usage_in_bytes")).read_text())
