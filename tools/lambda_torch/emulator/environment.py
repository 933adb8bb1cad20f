"""One execution environment: AWS's Runtime Interface Emulator with one function process.

The emulator starts the function at the first event, like Lambda's init phase. It starts the function again after it
ended or ran out of time. It takes one event at a time, and a second event at the same time would end it. So each event
waits for the one before.
"""

import http.client
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lambda_torch.emulator import rie
from lambda_torch.emulator.processes import Child, LineSink, Processes
from lambda_torch.emulator.software import Software, emulator_binary, interpreter
from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.errors import EnvironmentLostError, InitError

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
BOOTSTRAP = Path(__file__).with_name("bootstrap.py")

# "Lambda quotas": invocation payload, request and response, synchronous. The emulator silently cuts off a larger event.
PAYLOAD_LIMIT = 6_291_456

_RESPONSE_GRACE_SECONDS = 15.0

# The emulator's own lines at its log level "info". Lambda also writes START, END and REPORT, but the emulator's figures
# in them are wrong: it measures no memory, and its init duration is a different one.
_EMULATOR_LINE = re.compile(
    r"^(\d+ \w+ \d{4} [\d:,]+ \[\w+\] \(rapid\) (?P<text>.*)|(START|END|REPORT) RequestId: [0-9a-f-]{36}\b.*)$"
)
_INIT_REPORT = re.compile(r"INIT REPORT\(durationMs: (?P<ms>[\d.]+)\)")
_INIT_DONE = re.compile(r"INIT RTDONE\(status: (?P<status>\w+)\)")
_TIMED_OUT = re.compile(rb"Task timed out after [\d.]+ seconds")


@dataclass(frozen=True)
class Function:
    """A function as Lambda's configuration describes it.

    Attributes:
        code: the task root.
        handler: `module.function`.
        software: where torch and the other packages come from.
        memory_mb: the function reads it in its environment. The emulator does not enforce it.
        timeout_seconds: the emulator ends a function process that takes longer.
        variables: the function's own environment variables.
    """

    code: Path
    handler: str
    software: Software
    name: str = "PredictFunction"
    memory_mb: int = 3008
    timeout_seconds: int = 30
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, scratch: Path) -> dict[str, str]:
        """The variables that Lambda sets ("Defined runtime environment variables"), and the function's own.

        `scratch` replaces /tmp. Each environment has its own.
        """
        opt = self.software.opt
        library_folders = [*([opt / "lib"] if opt else []), self.code, self.code / "lib"]
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return {
            "PATH": ":".join([*([str(opt / "bin")] if opt else []), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LD_LIBRARY_PATH": ":".join(map(str, library_folders)),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": str(scratch),  # on Lambda it cannot be written; here it must not be the developer's own folder
            "TMPDIR": str(scratch),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_seconds),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **CREDENTIALS,
            **self.variables,
            "LAMBDA_TASK_ROOT": str(self.code),
            "LAMBDA_EMULATOR_PATH": os.pathsep.join(map(str, (self.code, *self.software.folders))),
        }


@dataclass(frozen=True)
class InvokeResult:
    """The result of an invocation.

    Attributes:
        payload: the function's answer, or the error as JSON (`errorType`, `errorMessage`, and more).
        failed: the function raised an exception, ended, ran out of time, or its environment was lost.
    """

    payload: bytes
    failed: bool = False

    @classmethod
    def failure(cls, kind: str, message: str) -> "InvokeResult":
        """An error in the form of Lambda's reports."""
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


class Environment:
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

    def initialise(self, event: bytes) -> InvokeResult:
        """Start the function with a first event.

        Raises:
            InitError: the function does not start. The message has the last lines of the log.
        """
        outcome = self.invoke(event)
        if outcome.failed and self._init_status != "success":
            reason = _exception(outcome.payload) or f"its process ended. The last lines of its log:\n{self.log_tail()}"
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
        return InvokeResult(payload, failed=_is_error(payload))
    if payload:
        return InvokeResult(payload, failed=True)
    # An empty 502: the process ended before the runtime client could report anything.
    return InvokeResult.failure("Runtime.ExitError", "The process of the function ended. Its log may say why.")


def _exception(payload: bytes) -> str | None:
    """The exception that the function raised and where, as text. None if its process ended without an exception."""
    error = json.loads(payload) if _is_error(payload) else {}
    if "stackTrace" not in error:
        return None
    frames = [frame for frame in error["stackTrace"] if "importlib" not in frame]
    return "\n".join([f"{error['errorType']}: {error['errorMessage']}", *map(str.rstrip, frames)])


def _is_error(payload: bytes) -> bool:
    """Whether the payload is an exception: the runtime client reports it as an object with these members only."""
    if b'"errorMessage"' not in payload:
        return False
    try:
        error = json.loads(payload)
    except ValueError:
        return False
    return isinstance(error, dict) and {"errorMessage", "errorType"} <= error.keys() <= {
        *("errorMessage", "errorType", "requestId", "stackTrace")
    }
