"""Environments that take events from one queue.

As on Lambda, the load starts environments: if all are busy, an event starts another one, up to the size of the pool.
The first environment that is free takes the event. Unlike on Lambda, more events wait and are not throttled.

The pool has an event loop in a thread of its own. Each environment has a task on it. The gateway runs on the same loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from lambda_torch.emulator.answer_stream import AnswerStream, BrokenStreamError
from lambda_torch.emulator.crew import Answer, Crew, MakeEnvironment
from lambda_torch.emulator.function import PAYLOAD_LIMIT, InvokeResult
from lambda_torch.emulator.loop_thread import LoopThread
from lambda_torch.errors import EmulatorError


class PayloadTooLargeError(ValueError):
    """The event is larger than Lambda's limit."""


class Pool:
    """A pool of environments. Any thread may call any method, except where a method says "on the loop".

    Args:
        make: makes the environment with this number (1, 2, ...). It is called on the loop.
        concurrency: the most environments at the same time.
        first_event: the first event of each new environment. With None, an environment may take events before its
            function has started.
        on_note: called with one sentence when an environment is started or lost.
    """

    def __init__(
        self,
        make: MakeEnvironment,
        concurrency: int,
        first_event: bytes | None = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._crew = Crew(make, concurrency, first_event, on_note)
        self._joining: set[asyncio.Task[InvokeResult]] = set()
        self.thread = LoopThread("pool")
        """The loop of the pool, for servers in front of it."""

    def start(self, environments: int = 1) -> InvokeResult | None:
        """Start the first environment, and others at the same time. Returns the first one's answer to the first event.

        Args:
            environments: how many to start, at most the size of the pool.

        Raises:
            EmulatorError: the first environment does not start.
        """
        return self.thread.wait_for(self._crew.start(environments))

    def init_ms(self, number: int = 1) -> float | None:
        """Milliseconds of the start-up of an environment."""
        return self._crew.init_ms(number)

    @property
    def size(self) -> int:
        """How many environments there are now, including those that are starting."""
        return self._crew.size

    def processes(self) -> list[int]:
        """The process ids of its environments. If one ends, its environment is lost."""
        return self._crew.processes()

    def submit(self, event: bytes, client_context: str | None = None) -> "Future[InvokeResult]":
        """Queue an event. To drop it, cancel the future before an environment takes the event.

        A streamed answer is joined, as Lambda's Invoke API does.

        Raises:
            PayloadTooLargeError: the event is larger than Lambda's limit.
            EmulatorError: the pool is closed.
        """
        self._check(event)
        result: Future[InvokeResult] = Future()
        self.thread.soon(self._submit, event, client_context, result)
        return result

    def _submit(self, event: bytes, client_context: str | None, result: "Future[InvokeResult]") -> None:
        if self._crew.closed:
            result.cancel()
            return
        answer = self._crew.queue(event, client_context, result.set_running_or_notify_cancel)
        answer.add_done_callback(lambda done: self._hand_over(done, result))

    def _hand_over(self, answer: "asyncio.Future[Answer]", result: "Future[InvokeResult]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            result.cancel()
        elif isinstance(found := answer.result(), AnswerStream):
            joining = asyncio.ensure_future(_joined(found))
            self._joining.add(joining)  # the loop itself holds no strong reference
            joining.add_done_callback(lambda done: self._hand_over_joined(done, result))
        else:
            result.set_result(found)

    def _hand_over_joined(self, joining: "asyncio.Task[InvokeResult]", result: "Future[InvokeResult]") -> None:
        self._joining.discard(joining)
        ending = InvokeResult.failure("Sandbox.Failure", "The run is ending.")
        result.set_result(ending if joining.cancelled() else joining.result())

    async def answer(self, event: bytes, client_context: str | None = None) -> Answer:
        """Queue an event and wait for its answer, on the loop. If the caller is cancelled, a waiting event is dropped.

        Raises: as of `submit`.
        """
        self._check(event)
        answer = self._crew.queue(event, client_context, None)
        try:
            return await answer
        except asyncio.CancelledError:
            # The caller may go away after the answer was set and before it could take it.
            if answer.done() and not answer.cancelled() and isinstance(found := answer.result(), AnswerStream):
                found.close()
            raise

    async def result(self, event: bytes, client_context: str | None = None) -> InvokeResult:
        """As `answer`, but a streamed answer is joined."""
        found = await self.answer(event, client_context)
        return await _joined(found) if isinstance(found, AnswerStream) else found

    def _check(self, event: bytes) -> None:
        if len(event) > PAYLOAD_LIMIT:
            raise PayloadTooLargeError(
                f"Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
            )
        if self._crew.closed:
            raise EmulatorError("The pool is closed.")

    def renew(self) -> "Future[EmulatorError | None]":
        """Replace all environments by one new environment, for new code of the function. The load starts more.

        Running events end in the old environments. Waiting and later events go to the new one. The result is set when
        the new environment has started. It is None, or the reason why it does not start. Then the next event tries
        again.

        Raises:
            EmulatorError: the pool is closed.
        """
        if self._crew.closed:
            raise EmulatorError("The pool is closed.")
        return self.thread.wait_for(self._crew.renew())

    def close(self) -> None:
        """Stop all environments and the loop. Running events fail, and waiting events are cancelled."""
        if not self._crew.closed:
            self.thread.wait_for(self._crew.close())
            self.thread.close()


async def _joined(stream: AnswerStream) -> InvokeResult:
    try:
        return InvokeResult(await stream.joined())
    except BrokenStreamError as error:
        return InvokeResult.failure(error.kind, str(error))
    finally:
        stream.close()
