"""Ends the processes of a run whose owner was killed without a chance to do it itself (SIGKILL, out of memory).

Run as a script: it reads `+SESSION` and `-SESSION` lines from standard input, which only the owner has open, and at its end
kills every process of the sessions that are left. Standard library only: it starts in an isolated interpreter.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path


def members(session: int) -> list[int]:
    """Process ids in a session, from /proc (see proc_pid_stat(5): the session is the sixth field)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # The second field, the command's name, may hold spaces and parentheses: fields are counted behind its last ")".
            state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found.append(int(entry.name))
    return found


def kill_session(session: int) -> None:
    """Kill all processes of a session; those that are gone already are no error."""
    for process in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def main() -> None:
    """Keep the list until the owner's end of the pipe is closed, then kill what is left on it."""
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
