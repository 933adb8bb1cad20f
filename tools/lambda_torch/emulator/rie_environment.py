"""One execution environment: AWS's Runtime Interface Emulator with one function process.

The emulator starts the function at the first event, like Lambda's init phase. It starts the function again after it
ended or ran out of time. It takes one event at a time, and a second event at the same time would end it. So each event
waits for the one before.
"""

import asyncio
import http.client
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lambda_torch.emulator import rie
from lambda_torch.emulator.environment import BOOTSTRAP
from lambda_torch.emulator.function import PAYLOAD_LIMIT, Function, InvokeResult, exception_of, is_error
from lambda_torch.emulator.processes import Child, LineSink, Processes
from lambda_torch.emulator.software import emulator_binary, interpreter
from lambda_torch.errors import EnvironmentLostError, InitError

T = TypeVar("T")

INVOKE_PATH = "/2015-03-31/functions/function/invocations"

_RESPONSE_GRACE_SECONDS = 15.0

# The emulator's own lines at its log level "info". Lambda also writes START, END and REPORT, but the emulator's figures
# in them are wrong: it measures no memory, and its init duration is a different one.
_EMULATOR_LINE = re.compile(
    r"^(\d+ \w+ \d{4} [\d:,]+ \[\w+\] \(rapid\) (?P<text>.*)|(START|END|REPORT) RequestId: [0-9a-f-]{36}\b.*)$"
)
_INIT_REPORT = re.compile(r"INIT REPORT\(durationMs: (?P<ms>[\d.]+)\)")
_INIT_DONE = re.compile(r"INIT RTDONE\(status: (?P<status>\w+)\)")
_TIMED_OUT = re.compile(rb"Task timed out after [\d.]+ seconds")


class RieEnvironment:
    """A running environment. `stop` ends it.

    Args:
        function: what to run.
        processes: ends the processes, at the latest when the run ends.
        folder: the function's /tmp is made in this folder.
        name: for messages.
        on_line: called with each line of the function's log, without the emulator's own notes.

    Raises:
        EmulatorError: the emulator cannot be started.
    """

    def __init__(
        self, function: Function, processes: Processes, folder: Path, name: str, on_line: LineSink | None = None
    ) -> None:
        self.name = name
        self._function = function
        self._processes = processes
        self._on_line = on_line
        self._one_at_a_time = threading.Lock()
        self._init_status: str | None = None
        self.init_ms: float | None = None
        """Milliseconds of the last init phase, measured by the emulator. None before the first event."""
        self._scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=folder))
        try:
            self._child, self.port = self._start()
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def _start(self) -> tuple[Child, int]:
        function = self._function
        # -I -S: the developer's own packages cannot be imported. -B: on Lambda, /var/task and /opt cannot be written.
        runtime = [interpreter(), "-I", "-S", "-B", "-u", str(BOOTSTRAP), function.handler]
        variables = function.environment(self._scratch)
        binary = str(emulator_binary())
        return rie.start(self._processes, self.name, binary, runtime, variables, function.code, self._line)

    def _line(self, line: str) -> None:
        """Read the emulator's notes about init phases, and pass on the other lines: the function's log."""
        noted = _EMULATOR_LINE.match(line)
        if noted is None:
            if self._on_line is not None:
                self._on_line(line)
        elif report := _INIT_REPORT.match(noted["text"] or ""):
            self.init_ms = float(report["ms"])
        elif done := _INIT_DONE.match(noted["text"] or ""):
            self._init_status = done["status"]

    @property
    def alive(self) -> bool:
        """Whether it can take events. If the process of the function has ended, the next event starts it again."""
        return self._child.alive

    @property
    def process(self) -> int:
        """The id of the emulator's process."""
        return self._child.process.pid

    def initialise(self, event: bytes) -> InvokeResult:
        """Start the function with a first event.

        Raises:
            InitError: the function does not start. The message has the last lines of the log.
        """
        outcome = self.invoke(event)
        if outcome.failed and self._init_status != "success":
            reason = (
                exception_of(outcome.payload) or f"its process ended. The last lines of its log:\n{self.log_tail()}"
            )
            raise InitError(f"The function does not start: {reason}")
        return outcome

    def log_tail(self) -> str:
        """The last lines of the function's log."""
        return "\n".join(line for line in self._child.tail().splitlines() if not _EMULATOR_LINE.match(line))

    def invoke(self, event: bytes, client_context: str | None = None) -> InvokeResult:
        """Send one event (JSON) and wait for the answer. A second call waits until the first one has its answer.

        `client_context` is the base64 text of Lambda's `X-Amz-Client-Context`.

        Raises:
            ValueError: the event is larger than Lambda's limit.
            EnvironmentLostError: the emulator has ended. This environment cannot be used any more.
        """
        if len(event) > PAYLOAD_LIMIT:
            raise ValueError(f"the event has {len(event)} bytes, and Lambda's limit is {PAYLOAD_LIMIT}")
        # The emulator itself ends a function that is late. It may do so twice for one event: at init and at invoke.
        patience = 2 * self._function.timeout_seconds + _RESPONSE_GRACE_SECONDS
        headers = {"Content-Type": "application/json"}
        if client_context is not None:
            headers["X-Amz-Client-Context"] = client_context
        with self._one_at_a_time:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
            try:
                connection.request("POST", INVOKE_PATH, event, headers)
                response = connection.getresponse()
                payload = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise EnvironmentLostError(f"{self.name} is lost: {error or type(error).__name__}") from error
            finally:
                connection.close()
        return outcome_of(response.status, payload)

    def stop(self) -> None:
        """End its processes and remove its /tmp."""
        self._processes.stop(self._child)
        shutil.rmtree(self._scratch, ignore_errors=True)


def outcome_of(status: int, payload: bytes) -> InvokeResult:
    """The result in a response of the emulator. Its status is 502 if a process ended, and 200 for other failures too.

    If the time ran out, the payload is a sentence. It is not JSON, as every answer of a function is.
    """
    if status == http.client.OK:
        if _TIMED_OUT.fullmatch(payload):
            return InvokeResult.failure("Sandbox.Timedout", payload.decode())
        return InvokeResult(payload, failed=is_error(payload))
    if payload:
        return InvokeResult(payload, failed=True)
    # An empty 502: the process ended before the runtime client could report anything.
    return InvokeResult.failure("Runtime.ExitError", "The process of the function ended. Its log may say why.")


class RieInPool:
    """The emulator's environment as a pool uses it. Its calls block, so they run in threads.

    Args: as of `RieEnvironment`.
    """

    def __init__(
        self, function: Function, processes: Processes, folder: Path, name: str, on_line: LineSink | None = None
    ) -> None:
        self._make = lambda: RieEnvironment(function, processes, folder, name, on_line)
        self._environment: RieEnvironment
        self._stopped = False
        # One call, and the stop beside it.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=name)

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def start(self) -> None:
        """Start the emulator. The function starts at the first event.

        Raises:
            EmulatorError: the emulator cannot be started.
        """
        self._environment = await self._call(self._make)

    @property
    def alive(self) -> bool:
        """Whether it can take events."""
        return self._environment.alive

    @property
    def process(self) -> int:
        """The id of the emulator's process."""
        return self._environment.process

    @property
    def init_ms(self) -> float | None:
        """Milliseconds of the last init phase."""
        return self._environment.init_ms

    async def initialise(self, event: bytes) -> InvokeResult:
        """Start the function with a first event. Raises InitError if it does not start."""
        return await self._call(self._environment.initialise, event)

    async def invoke(self, event: bytes, client_context: str | None = None) -> InvokeResult:
        """Send one event and wait for the answer. Raises EnvironmentLostError if the emulator has ended."""
        return await self._call(self._environment.invoke, event, client_context)

    async def idle(self) -> None:
        """The emulator answers when the function is ready for the next event."""

    async def stop(self) -> None:
        """End its processes."""
        if not self._stopped:
            self._stopped = True
            await self._call(self._environment.stop)
            self._threads.shutdown(wait=False)
