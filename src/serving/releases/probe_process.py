"""The process that tries a release with programs (see `serving.releases.probe`, which starts it)."""

import contextlib
import ctypes
import importlib
import json
import math
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_SIGKILL: Final = 9

# Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h) and of architectures
# (include/uapi/linux/audit.h). Refused are sockets, other programs, other processes, io_uring, and changes of files: the
# trial needs none of them. Opening a file is looked at closer: the number of the call, and the place of its flags.
_SYSTEMS: Final = {
    "x86_64": (
        0xC000003E,
        (41, 42, 49, 53, 59, 62, 101, 310, 311, 322, 425, 76, 77, 82, 85, 86, 87, 88, 263, 264, 265, 266, 316, 437),
        ((2, 1), (257, 2)),
    ),
    "aarch64": (
        0xC00000B7,
        (198, 199, 200, 203, 221, 281, 117, 129, 270, 271, 425, 35, 36, 37, 38, 45, 46, 276, 437),
        ((56, 2),),
    ),
}
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC (include/uapi/asm-generic/fcntl.h).
_WRITING: Final = 0o1 | 0o2 | 0o100 | 0o1000


def main(facts: dict[str, Any]) -> NoReturn:
    """Try the release and write `{"refused": reason}` to the standard output; an empty reason where all is well."""
    # Whatever the model prints goes elsewhere: only the report is read.
    report = os.dup(1)
    os.dup2(2, 1)
    _end_with_parent()
    sys.dont_write_bytecode = True
    try:
        reason = _reason(facts)
    except MemoryError:
        reason = "it needs more memory than there is"
    except BaseException as error:
        # Also SystemExit: a model's code may raise anything, and all of it is a reason.
        reason = f"{type(error).__name__}: {error}"
    os.write(report, json.dumps({"refused": reason[:2000]}).encode())
    os._exit(0)


def _reason(facts: dict[str, Any]) -> str:
    from serving.releases import golden
    from serving.releases.format import GoldenExample
    from serving.releases.loader import warm_up
    from serving.releases.programs import seen
    from serving.releases.programs.refusal import ProgramError

    model_class, request_class = (_found(*facts["classes"][role]) for role in ("Model", "Request"))
    _limit(**facts["limits"])
    folder = Path(facts["folder"])
    for name, kind in facts["programs"].items():
        try:
            seen.check(folder / name, kind)
        except ProgramError as error:
            return f"{name} {error}"
    model = model_class.load(folder)
    examples = [GoldenExample.model_validate(example) for example in facts["golden"]]
    if examples:
        try:
            golden.check(model, request_class, examples)
        except golden.GoldenError as error:
            return f"it does not answer as recorded: {error}"
    else:
        warm_up(model)
    return ""


def _found(module: str, name: str) -> Any:
    """A class, by the names that it has in the function's own process."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _limit(bytes: int, seconds: float, files: int) -> None:
    """From here on: so much more memory, CPU time and files, no writing, no sockets, no other programs."""
    import torch

    torch.ones(8, 8).matmul(torch.ones(8, 8))  # the threads of the library are there, and their stacks count already
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = math.ceil(used.ru_utime + used.ru_stime + seconds)
    for limit, soft, hard in (
        (resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + bytes, None),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_NOFILE, files, None),
        (resource.RLIMIT_FSIZE, 0, None),
        (resource.RLIMIT_CORE, 0, None),
    ):
        with contextlib.suppress(ValueError, OSError):  # where a lower limit holds already
            resource.setrlimit(limit, (soft, soft if hard is None else hard))
    _refuse_calls()


def _prctl(*arguments: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).prctl(*(ctypes.c_ulong(argument) for argument in arguments)))


def _end_with_parent() -> None:
    """The kernel ends this process together with the one that started it (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _refuse_calls() -> None:
    """System calls that a trial does not need fail with EPERM (seccomp(2)), on the machines of the table."""
    if platform.machine() not in _SYSTEMS:
        return
    instructions = ctypes.create_string_buffer(_filter(*_SYSTEMS[platform.machine()]))
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", (len(instructions) - 1) // 8, ctypes.addressof(instructions))
    )
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0)


def _filter(architecture: int, refused: Sequence[int], opening: Sequence[tuple[int, int]]) -> bytes:
    """A program of classic BPF over `struct seccomp_data` (number at 0, architecture at 4, arguments from 16)."""
    load, equal, has, leave = 0x20, 0x15, 0x45, 0x06  # LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
    # Each instruction: what it does, its number, and where to go if it is so; elsewhere the next one follows.
    program: list[tuple[int, int, str]] = [(load, 4, ""), (equal, architecture, "known"), (leave, _REFUSE, "")]
    places = {"known": len(program)}
    program.append((load, 0, ""))
    program += [(equal, call, "refuse") for call in refused]
    program += [(equal, call, f"open {call}") for call, _ in opening]
    program.append((leave, _ALLOW, ""))
    for call, argument in opening:
        places[f"open {call}"] = len(program)
        program += [(load, 16 + 8 * argument, ""), (has, _WRITING, "refuse"), (leave, _ALLOW, "")]
    places["refuse"] = len(program)
    program.append((leave, _REFUSE, ""))
    jumps = [places[goal] - place - 1 if goal else 0 for place, (_, _, goal) in enumerate(program)]
    return b"".join(
        struct.pack("HBBI", code, jump, 0, number) for (code, number, _), jump in zip(program, jumps, strict=True)
    )
