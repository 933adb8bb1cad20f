"""One execution environment: one process of the function, with a Runtime API of its own.

The process is AWS's own runtime client. It starts at once and initialises, as on Lambda. If it ends or takes too long,
the environment is over, and the pool makes another. A method that waits is for the pool's event loop.
"""

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from lambda_torch.emulator.answer_stream import AnswerStream
from lambda_torch.emulator.function import PAYLOAD_LIMIT, Function, InvokeResult, NotTakenError, exception_of
from lambda_torch.emulator.payloads import ACCOUNT
from lambda_torch.emulator.processes import Child, LineSink, Processes
from lambda_torch.emulator.runtime_api import Delivery, RuntimeApi
from lambda_torch.emulator.software import interpreter
from lambda_torch.emulator.storage import REGION
from lambda_torch.errors import EmulatorError, InitError

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


class Environment:
    """A running environment. `start` begins it, and `stop` ends it.

    Args:
        function: what to run.
        processes: ends the process, at the latest when the run ends.
        folder: the function's /tmp is made in this folder.
        name: for messages.
        on_line: called with each line of the function's log, in a thread.
    """

    HOST = "127.0.0.1"  # where the Runtime API listens; another kind of environment may have its process elsewhere

    def __init__(
        self, function: Function, processes: Processes, folder: Path, name: str, on_line: LineSink | None = None
    ) -> None:
        self.name = name
        self._function = function
        self._processes = processes
        self._folder = folder
        self._on_line = on_line
        self.init_ms: float | None = None
        """Milliseconds from the start of the process until it asked for its first event."""
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function.name}"
        self._api = RuntimeApi(
            arn, function.timeout_seconds, self._init_failed, lambda _: self._start_clock(), self._asked
        )
        self._loop: asyncio.AbstractEventLoop
        self._scratch: Path
        self._child: Child
        self._started = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._timed_out = False
        self._init_error: bytes | None = None
        self._end: InvokeResult | None = None
        """What the end of the process is for the event that it had. None while the process runs."""
        self._next_asked: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the process. Its initialisation goes on in the background.

        Raises:
            EmulatorError: it cannot be executed, or the run is ending.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=self._folder))
        except OSError as error:
            raise EmulatorError(f"{self.name} has no folder for its /tmp: {error}") from error
        try:
            port = await self._api.open(self.HOST)
            self._child = await asyncio.to_thread(self._spawn, f"{self.HOST}:{port}")
            if self.init_ms is None:
                self._start_clock()
        except BaseException:
            self._api.close()
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def command(self, runtime_api: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the variables of the function's process. Its Runtime API is at `runtime_api`."""
        function = self._function
        # -I -S: the developer's own packages cannot be imported. -B: on Lambda, /var/task and /opt cannot be written.
        line = [interpreter(), "-I", "-S", "-B", "-u", str(BOOTSTRAP), function.handler]
        return line, function.environment(self._scratch) | runtime_variables(function, runtime_api)

    def _spawn(self, runtime_api: str) -> Child:
        def on_end(status: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._process_ended, status)

        self._started = time.perf_counter()
        return self._processes.start(self.name, *self.command(runtime_api), self._function.code, self._on_line, on_end)

    # What the Runtime API reports

    def _init_failed(self, error: bytes) -> None:
        self._init_error = error

    def _start_clock(self) -> None:
        self._stop_clock()
        if self._end is None:
            self._clock = self._loop.call_later(self._function.timeout_seconds, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _asked(self) -> None:
        self._stop_clock()
        if self.init_ms is None:
            self.init_ms = (time.perf_counter() - self._started) * 1000
        self._wake()

    def _wake(self) -> None:
        if self._next_asked is not None and not self._next_asked.done():
            self._next_asked.set_result(None)

    def _late(self) -> None:
        """The time of an invocation, or of the initialisation, is over."""
        self._timed_out = True
        delivery = self._api.current or self._api.queued
        if delivery is not None:
            delivery.fail(*_time_out(self._function))
        self._child.kill()

    def _process_ended(self, status: int) -> None:
        if self._end is not None:
            return
        self._stop_clock()
        taken, queued = self._api.current, self._api.queued
        if self._timed_out:
            failure = _time_out(self._function)
        else:
            number = taken.id if taken is not None else uuid.uuid4()
            failure = ("Runtime.ExitError", f"RequestId: {number} Error: Runtime exited {_manner(status)}")
        self._end = InvokeResult.failure(*failure)
        if taken is not None:
            taken.fail(*failure)
        if queued is not None and not queued.answer.done():
            self._refuse(queued)
        self._wake()

    def _refuse(self, delivery: Delivery) -> None:
        """Give back an event that the process did not take."""
        assert self._end is not None
        if self.init_ms is None:  # another environment would not start either
            delivery.settle(InvokeResult(self._init_error, failed=True) if self._init_error else self._end)
        else:
            delivery.answer.set_exception(NotTakenError)

    # What the pool calls

    @property
    def alive(self) -> bool:
        """Whether it can take events."""
        return self._end is None and not self._timed_out and self._child.alive

    @property
    def process(self) -> int:
        """The id of the function's process."""
        return self._child.process.pid

    async def initialise(self, event: bytes) -> InvokeResult:
        """Wait for the function's start-up, and give it a first event.

        Raises:
            InitError: the function does not start. The message has the exception, or the last lines of the log.
        """
        outcome = await self.invoke(event)
        if self.init_ms is None:
            assert isinstance(outcome, InvokeResult)
            reason = exception_of(outcome.payload)
            if reason is None and self._timed_out:
                reason = (
                    f"it took more than {self._function.timeout_seconds} s. Next: give it more time with --timeout."
                )
            if reason is None:
                await asyncio.to_thread(self._child.wait_output)
                reason = f"its process ended. The last lines of its log:\n{self.log_tail()}"
            raise InitError(f"The function does not start: {reason}")
        return InvokeResult(await outcome.joined()) if isinstance(outcome, AnswerStream) else outcome

    def log_tail(self) -> str:
        """The last lines of the function's log."""
        return self._child.tail()

    async def invoke(self, event: bytes, client_context: str | None = None) -> InvokeResult | AnswerStream:
        """Send one event (JSON) and wait for the answer, or for the beginning of a streamed one.

        `client_context` is the base64 text of Lambda's `X-Amz-Client-Context`.

        Raises:
            ValueError: the event is larger than Lambda's limit.
            NotTakenError: the process ended before it took the event.
        """
        if len(event) > PAYLOAD_LIMIT:
            raise ValueError(f"the event has {len(event)} bytes, and Lambda's limit is {PAYLOAD_LIMIT}")
        delivery = Delivery(event, client_context, self._loop.create_future())
        if self._end is not None:
            self._refuse(delivery)
        else:
            self._api.offer(delivery)
        return await delivery.answer

    async def idle(self) -> None:
        """Wait until the process asks for its next event, or has ended."""
        if self._api.current is not None and self._end is None:
            self._next_asked = self._loop.create_future()
            await self._next_asked

    async def stop(self) -> None:
        """End the process and remove its /tmp."""
        self._stop_clock()
        await asyncio.to_thread(self._processes.stop, self._child)
        self._process_ended(self._child.process.returncode)
        self._api.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


def runtime_variables(function: Function, runtime_api: str) -> dict[str, str]:
    """The variables that Lambda's runtime has beside the function's."""
    return {
        "_HANDLER": function.handler,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}",
    }


def _time_out(function: Function) -> tuple[str, str]:
    """The kind and the message of the failure when a function's time is over, as Lambda words them."""
    return "Sandbox.Timedout", f"Task timed out after {function.timeout_seconds:.2f} seconds"


def _manner(status: int) -> str:
    """How a process ended, in the words of Lambda."""
    if status == 0:
        return "without providing a reason"
    if status > 0:
        return f"with error: exit status {status}"
    return f"with error: signal: {(signal.strsignal(-status) or str(-status)).lower()}"
