"""One execution environment: AWS's Runtime Interface Emulator with one function process.

The emulator starts the function at the first event, as Lambda's own init phase does, starts it again after it exited or
ran out of time, and takes one event at a time: a second one at the same time ends it, so every event waits for the one before.
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

# "Lambda quotas": invocation payload, request and response, synchronous. Over it, the emulator silently cuts the event off.
PAYLOAD_LIMIT = 6_291_456

_RESPONSE_GRACE_SECONDS = 15.0

# The emulator's own lines, at its log level "info". START, END and REPORT are Lambda's too, but what they tell here is not true:
# no memory is measured, and the init duration is another one.
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
        memory_mb: told to the function; the emulator does not enforce it.
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
        """The variables that Lambda sets ("Defined runtime environment variables"), with the function's own.

        `scratch` stands for /tmp, which each environment has for itself.
        """
        opt = self.software.opt
        library_folders = [*([opt / "lib"] if opt else []), self.code, self.code / "lib"]
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return {
            "PATH": ":".join([*([str(opt / "bin")] if opt else []), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LD_LIBRARY_PATH": ":".join(map(str, library_folders)),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": str(scratch),  # on Lambda no folder that can be written; here it must not be the developer's own
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
    """What an invocation gave.

    Attributes:
        payload: the function's answer, or the error as JSON (`errorType`, `errorMessage`, and more).
        failed: the function raised, exited, ran out of time, or its environment was lost.
    """

    payload: bytes
    failed: bool = False

    @classmethod
    def failure(cls, kind: str, message: str) -> "InvokeResult":
        """An error in the form in which Lambda reports it."""
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


class Environment:
    """A running environment; `stop` ends it.

    Args:
        function: what to run.
        processes: what ends the processes if nobody else does.
        folder: where a scratch folder, the function's /tmp, is made.
        name: for messages.
        on_line: gets the function's log, without the emulator's own notes.

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
        """Milliseconds of the latest init phase, as the emulator measured it; None before the first event."""
        self._scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=folder))
        try:
            self._child, self.port = self._start()
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def _start(self) -> tuple[Child, int]:
        function = self._function
        # -I -S: nothing of the developer's Python is importable. -B: /var/task and /opt cannot be written on Lambda.
        runtime = [interpreter(), "-I", "-S", "-B", "-u", str(BOOTSTRAP), function.handler]
        variables = function.environment(self._scratch)
        binary = str(emulator_binary())
        return rie.start(self._processes, self.name, binary, runtime, variables, function.code, self._line)

    def _line(self, line: str) -> None:
        """Read what the emulator notes about init phases, and pass on the rest: the function's log."""
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
        """Whether it can take events. The function's own process may be gone: the next event starts it again."""
        return self._child.alive

    def initialise(self, event: bytes) -> InvokeResult:
        """Run the function's start-up by sending it a first event.

        Raises:
            InitError: the start-up failed; with the last lines of the log.
        """
        outcome = self.invoke(event)
        if outcome.failed and self._init_status != "success":
            told = _exception(outcome.payload) or f"its process ended. Its log ends so:\n{self.log_tail()}"
            raise InitError(f"The function does not start: {told}")
        return outcome

    def log_tail(self) -> str:
        """The last lines of the function's log."""
        return "\n".join(line for line in self._child.tail().splitlines() if not _EMULATOR_LINE.match(line))

    def invoke(self, event: bytes, client_context: str | None = None) -> InvokeResult:
        """Send one event (JSON) and wait for the answer; a call while another is under way waits for that one.

        `client_context` is the base64 text of Lambda's `X-Amz-Client-Context`.

        Raises:
            ValueError: the event is larger than Lambda takes.
            EnvironmentLostError: the emulator is gone; this environment is of no more use.
        """
        if len(event) > PAYLOAD_LIMIT:
            raise ValueError(f"the event has {len(event)} bytes, and Lambda takes {PAYLOAD_LIMIT}")
        # The emulator ends a late function itself. It may do so twice for one event, at init and at invoke.
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
    """Tell answers from failures: the emulator gives 200 for both, but for a function whose process ended (502).

    Time ran out where the answer is this sentence, which is not JSON as any answer of a function is.
    """
    if status == http.client.OK:
        if _TIMED_OUT.fullmatch(payload):
            return InvokeResult.failure("Sandbox.Timedout", payload.decode())
        return InvokeResult(payload, failed=_is_error(payload))
    if payload:
        return InvokeResult(payload, failed=True)
    # An empty 502: the process ended before the runtime client could say anything.
    return InvokeResult.failure("Runtime.ExitError", "The function's process ended; see its log.")


def _exception(payload: bytes) -> str | None:
    """An exception that the function raised, for people: what it is, and where; None where its process ended without one."""
    error = json.loads(payload) if _is_error(payload) else {}
    if "stackTrace" not in error:
        return None
    frames = [frame for frame in error["stackTrace"] if "importlib" not in frame]
    return "\n".join([f"{error['errorType']}: {error['errorMessage']}", *map(str.rstrip, frames)])


def _is_error(payload: bytes) -> bool:
    """The runtime client reports an exception as an object with these members and, at most, two more."""
    if b'"errorMessage"' not in payload:
        return False
    try:
        error = json.loads(payload)
    except ValueError:
        return False
    return isinstance(error, dict) and {"errorMessage", "errorType"} <= error.keys() <= {
        *("errorMessage", "errorType", "requestId", "stackTrace")
    }
