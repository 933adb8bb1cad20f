"""Starting AWS's Runtime Interface Emulator, which is part of the SAM CLI, on free ports."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lambda_torch.emulator.processes import Child, LineSink, Processes, free_port

START_SECONDS = 30.0


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
    """Start the emulator with `runtime`, the command that it runs for a function.

    Args:
        name: for messages.
        binary: the path of the emulator, as the child sees it.
        environment: exactly the variables of the child.
        folder: the child's working folder.
        on_line: called with each line of output: the function's log and the emulator's own notes.
        within: makes a command line that runs the emulator's command line inside something, such as a sandbox.

    Returns:
        The child, and the loopback port for events.

    Raises:
        EmulatorError: it cannot be executed, ended, or does not listen. The message has the last lines of its output.
    """

    def arguments(port: int) -> list[str]:
        line = [
            *(binary, "--log-level", "info"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
            *runtime,
        ]
        return within(line)

    return processes.start_listening(name, arguments, environment, folder, on_line, seconds=START_SECONDS)
