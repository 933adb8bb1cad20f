"""A running test box: it takes events and gives answers."""

import contextlib
import http.client
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lambda_torch.emulator import rie
from lambda_torch.emulator.function import InvokeResult
from lambda_torch.emulator.processes import Child, LineSink, Processes
from lambda_torch.emulator.rie_environment import INVOKE_PATH, outcome_of
from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.errors import BoxError, EmulatorError
from lambda_torch.testbox import sandbox
from lambda_torch.testbox.limits import Limits
from lambda_torch.testbox.rootfs import Rootfs


def why_not() -> str | None:
    """Why this machine cannot make a test box, in one line with the next step. None if it can."""
    if sys.platform != "linux":
        return "a test box needs Linux."
    reason = sandbox.why_not()
    if reason:
        return reason
    try:
        with Limits(128):
            return None
    except BoxError as error:
        return str(error)


class Box:
    """One execution environment in a sandbox with Lambda's limits, as a context manager.

    It uses the machine's network. The function starts at the first event.

    Args:
        rootfs: the files of the box.
        handler: `module.function`.
        memory_mb: the limit of memory, in MB. The limit of CPU is in proportion to it.
        timeout_seconds: the emulator ends the process of the function after this time.
        variables: the function's own environment variables.
        on_line: called with each line of the log.

    Raises:
        BoxError: this machine cannot make a test box.

    Example:
        with Rootfs(task, layer) as files, Box(files, "app.lambda_handler", memory_mb=1769) as box:
            print(box.invoke(b'{"category": "Russian", "start_letters": "RUS"}').payload)
    """

    def __init__(
        self,
        rootfs: Rootfs,
        handler: str,
        *,
        memory_mb: int = 3008,
        timeout_seconds: int = 30,
        variables: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self._timeout = timeout_seconds
        self._one_at_a_time = threading.Lock()
        self._stack = contextlib.ExitStack()
        try:
            self.limits = self._stack.enter_context(Limits(memory_mb))
            self._processes = self._stack.enter_context(Processes())
            environment = _environment(handler, memory_mb, timeout_seconds) | dict(variables or {})
            self._child, self._port = self._start(rootfs, environment, on_line)
        except EmulatorError as error:
            self._stack.close()
            raise BoxError(f"The test box does not start. {error}") from error
        except BaseException:
            self._stack.close()
            raise

    def _start(self, rootfs: Rootfs, environment: dict[str, str], on_line: LineSink | None) -> tuple[Child, int]:
        def within(emulator: list[str]) -> list[str]:
            return [*self.limits.joining(), *sandbox.command(rootfs, environment, emulator)]

        runtime = ["/var/lang/bin/python3", "-I", "-S", "-B", "-u", "/var/runtime/bootstrap.py"]
        outside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        binary = "/var/rapid/aws-lambda-rie"
        return rie.start(self._processes, "the test box", binary, runtime, outside, Path("/"), on_line, within)

    def invoke(self, event: bytes) -> InvokeResult:
        """Send one event (JSON) and wait for the answer.

        Raises:
            BoxError: the emulator has ended, for example because the memory limit ended it with the function.
        """
        with self._one_at_a_time:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * self._timeout + 15)
            with contextlib.closing(connection):
                try:
                    connection.request("POST", INVOKE_PATH, event, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    return outcome_of(response.status, response.read())
                except (OSError, http.client.HTTPException) as error:
                    raise BoxError(
                        f"The test box has ended: {error or type(error).__name__}\n{self._child.tail()}"
                    ) from error

    def log(self) -> str:
        """The last lines of the function's log, including the emulator's notes."""
        return self._child.tail()

    def stop(self) -> None:
        """End its processes and remove its control group."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _environment(handler: str, memory_mb: int, timeout_seconds: int) -> dict[str, str]:
    """The variables that Lambda sets, "Defined runtime environment variables"."""
    return {
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": "/home/sbx_user1051",
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": "PredictFunction",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_seconds),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        **CREDENTIALS,
    }
