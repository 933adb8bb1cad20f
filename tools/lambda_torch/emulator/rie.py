"""Starting AWS's Runtime Interface Emulator, which SAM ships, at ports that are free."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lambda_torch.emulator.processes import Child, LineSink, Processes, free_port
from lambda_torch.errors import EmulatorError

START_SECONDS = 30.0
_ATTEMPTS = 3


def start(
    processes: Processes,
    name: str,
    binary: str,
    runtime: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    on_line: LineSink | None = None,
    within: Callable[[list[str]], list[str]] = list,
) -> tuple[Child, int]:
    """Start the emulator with the command that it runs for a function, `runtime`; the child, and the loopback port for events.

    Args:
        name: for messages.
        binary: the emulator, where the child sees it.
        environment: exactly the child's variables.
        folder: where it works.
        on_line: gets its output, the function's log and its own notes.
        within: makes of the emulator's command line one that runs it in something, a sandbox for instance.

    Raises:
        EmulatorError: it cannot be executed, ended, or does not listen; with its last lines.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        port, runtime_port = free_port(), free_port()
        line = [
            *(binary, "--log-level", "info"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
            *runtime,
        ]
        child = processes.start(name, within(line), environment, folder, on_line)
        try:
            child.wait_listening(port, START_SECONDS)
            return child, port
        except EmulatorError:
            processes.stop(child)
            # A port may have been taken between asking for it and binding it; anything else fails again, and is told.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")
