"""The process that meets what was let through: it loads it with torch, and says what happened.

A line on its standard input names a file, its kind and its inputs; a line on its standard output is the answer. What must
never happen is watched by the interpreter's own audit events: other programs, sockets, files that are written, and
pickles that name anything but tensors.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

NEVER = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.remove", "os.rename")
PICKLED = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("collections", "OrderedDict"),
    ("torch", "device"),
    ("torch", "Size"),
}

seen_events: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NEVER:
        seen_events.append(f"{event} {arguments!r}"[:200])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen_events.append(f"open {arguments!r}"[:200])
    if event == "pickle.find_class" and arguments not in PICKLED and not str(arguments[1]).endswith("Storage"):
        seen_events.append(f"pickle {arguments!r}"[:200])


def _records(path: str) -> dict[str, bytes]:
    """What torch's reader sees in an archive."""
    import torch

    reader = torch._C.PyTorchFileReader(path)
    return {name: reader.get_record(name) for name in reader.get_all_records()}


def _meet(path: str, kind: Any, inputs: str) -> str:
    import torch

    from serving.releases.programs import seen
    from serving.releases.programs.archive import Archive
    from serving.releases.programs.refusal import ProgramError

    archive = Archive.of(Path(path))
    # torch names its records in the order of its own table.
    ours = {name: archive.read(name, most=2**31) for name in archive.records}
    if ours != _records(path):
        return "difference: torch reads other records than the check"
    try:
        seen.check(Path(path), kind)
    except ProgramError as error:
        return f"refused: {error}"
    try:
        given = torch.load(inputs, weights_only=True)
        with torch.no_grad():
            loaded: Any = torch.export.load(path).module() if kind == "torch.export" else torch.jit.load(path)
            loaded(*given)
    except Exception as error:
        return f"failed: {type(error).__name__}"
    return "answered"


def main() -> None:
    """Answer one line after the other."""
    import resource

    warnings.simplefilter("ignore")
    import torch

    from serving.releases.programs.refusal import ProgramError

    torch.export.load(sys.argv[1])  # what torch imports for the first program is no event of a later one
    sys.addaudithook(_watch)
    resource.setrlimit(resource.RLIMIT_AS, (6 * 1024**3, 6 * 1024**3))
    print("ready", flush=True)
    for line in sys.stdin:
        path, kind, inputs = json.loads(line)
        seen_events.clear()
        try:
            answer = _meet(path, kind, inputs)
        except (MemoryError, RuntimeError, ProgramError) as error:
            answer = f"failed: {type(error).__name__}: {error}"[:300]  # a damaged content, or one too large
        if seen_events:
            answer = f"event: {seen_events[0]}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
