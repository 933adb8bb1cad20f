"""Ends the processes of a run if the owner of the run was killed and could not end them (SIGKILL, out of memory).

A script: it reads `+SESSION` and `-SESSION` lines from standard input, which only the owner has open. At the end of the
input it kills every process of the remaining sessions. It uses the standard library only, because its interpreter is
isolated.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

PROC = Path("/proc")


def members(session: int) -> list[int]:
    """Process ids in a session, from /proc (see proc_pid_stat(5): the session is the sixth field)."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # The second field, the name of the command, may contain spaces and parentheses. So count after its last
            # ")".
            state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found.append(int(entry.name))
    return found


def kill_session(session: int) -> None:
    """Kill all processes of a session. A process that has ended already is not an error.

    A system without /proc (macOS) has no list of a session. There this kills the first process group of the session:
    what a function starts is in it, unless it asks for a group of its own.
    """
    if not PROC.is_dir():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
        return
    for process in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def main() -> None:
    """Keep the list until the owner's end of the pipe is closed. Then kill the sessions in the list."""
    sessions: set[int] = set()
    for line in sys.stdin:
        sign, number = line[0], int(line[1:])
        if sign == "+":
            sessions.add(number)
        else:
            sessions.discard(number)
    for session in sessions:
        kill_session(session)


if __name__ == "__main__":
    main()
