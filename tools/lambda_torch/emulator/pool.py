"""Environments that take events from one queue.

As on Lambda, the load starts environments: if all are busy, an event starts another one, up to the size of the pool.
The first environment that is free takes the event. Unlike on Lambda, more events wait and are not throttled.

The pool has an event loop in a thread of its own. Each environment has a task on it. The gateway runs on the same loop.
"""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from lambda_torch.emulator.answer_stream import AnswerStream, BrokenStreamError
from lambda_torch.emulator.function import PAYLOAD_LIMIT, InvokeResult, NotTakenError
from lambda_torch.emulator.loop_thread import LoopThread
from lambda_torch.errors import EmulatorError, EnvironmentLostError

Answer = InvokeResult | AnswerStream

# An event that an environment did not take goes to the next one.
TRIES = 3


class Pooled(Protocol):
    """What a pool needs of an environment."""

    @property
    def alive(self) -> bool:
        """Whether it can take events."""

    @property
    def init_ms(self) -> float | None:
        """Milliseconds of the function's start-up. None while it is not known."""

    async def start(self) -> None:
        """Start it. Raises EmulatorError if it cannot be started."""

    async def initialise(self, event: bytes) -> InvokeResult:
        """Wait for the function's start-up, and give it a first event. Raises InitError if it does not start."""

    async def invoke(self, event: bytes, client_context: str | None = None) -> Answer:
        """Send one event, and wait for the answer or for the beginning of a streamed one.

        Raises NotTakenError if another environment can take the event, and EnvironmentLostError if none can.
        """

    async def idle(self) -> None:
        """Wait until the function is ready for the next event, or has ended."""

    async def stop(self) -> None:
        """End its processes. A second call does nothing."""


MakeEnvironment = Callable[[int], Pooled]


class PayloadTooLargeError(ValueError):
    """The event is larger than Lambda's limit."""


class _Waiting:
    """An event in the queue. `claim` says whether somebody still waits for the answer."""

    def __init__(
        self, event: bytes, client_context: str | None, answer: "asyncio.Future[Answer]", claim: Callable[[], bool]
    ) -> None:
        self.event, self.client_context, self.answer, self.claim = event, client_context, answer, claim

    def settle(self, answer: Answer) -> None:
        """Give the answer. If nobody waits any more, a streamed one ends."""
        if not self.answer.done():
            self.answer.set_result(answer)
        elif isinstance(answer, AnswerStream):
            answer.close()


class _Renewal:
    def __init__(self, number: int) -> None:
        self.number = number
        self.result: Future[EmulatorError | None] = Future()

    def claim(self) -> bool:
        """Whether the caller is the first, which starts one environment even if there were several."""
        result = self.result
        return not result.running() and not result.done() and result.set_running_or_notify_cancel()


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
        self._make = make
        self._concurrency = concurrency
        self._first_event = first_event
        self._on_note = on_note
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._environments: dict[int, Pooled] = {}
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._sleepers: dict[asyncio.Future[None], None] = {}
        self._free = 0  # workers that can take an event now
        self._renewal = _Renewal(0)
        self._closed = False
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
        return self.thread.wait_for(self._start(environments))

    async def _start(self, environments: int) -> InvokeResult | None:
        for number in range(2, environments + 1):
            self._hire(number, None)
        environment, outcome = await self._fresh(1)
        self._hire(1, environment)
        return outcome

    def init_ms(self, number: int = 1) -> float | None:
        """Milliseconds of the start-up of an environment."""
        environment = self._environments.get(number)
        return environment.init_ms if environment else None

    @property
    def size(self) -> int:
        """How many environments there are now, including those that are starting."""
        return len(self._workers)

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
        if self._closed:
            result.cancel()
            return
        answer = self._queue(event, client_context, result.set_running_or_notify_cancel)
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
        return await self._queue(event, client_context, None)

    async def result(self, event: bytes, client_context: str | None = None) -> InvokeResult:
        """As `answer`, but a streamed answer is joined."""
        found = await self.answer(event, client_context)
        return await _joined(found) if isinstance(found, AnswerStream) else found

    def _check(self, event: bytes) -> None:
        if len(event) > PAYLOAD_LIMIT:
            raise PayloadTooLargeError(
                f"Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
            )
        if self._closed:
            raise EmulatorError("The pool is closed.")

    def _queue(
        self, event: bytes, client_context: str | None, claim: Callable[[], bool] | None
    ) -> "asyncio.Future[Answer]":
        answer: asyncio.Future[Answer] = self.thread.loop.create_future()
        self._waiting.append(_Waiting(event, client_context, answer, claim or (lambda: not answer.done())))
        if len(self._waiting) > self._free and len(self._workers) < self._concurrency:
            number = min(set(range(1, self._concurrency + 1)) - self._workers.keys())
            self._on_note(f"All environments are busy: starting number {number}.")
            self._hire(number, None)
        self._wake_one()
        return answer

    def renew(self) -> "Future[EmulatorError | None]":
        """Replace all environments by one new environment, for new code of the function. The load starts more.

        Running events end in the old environments. Waiting and later events go to the new one. The result is set when
        the new environment has started. It is None, or the reason why it does not start. Then the next event tries
        again.

        Raises:
            EmulatorError: the pool is closed.
        """
        if self._closed:
            raise EmulatorError("The pool is closed.")
        return self.thread.wait_for(self._renew()).result

    async def _renew(self) -> _Renewal:
        self._renewal.result.cancel()
        self._renewal = _Renewal(self._renewal.number + 1)
        self._wake_all()
        return self._renewal

    def close(self) -> None:
        """Stop all environments and the loop. Running events fail, and waiting events are cancelled."""
        if not self._closed:
            self._closed = True
            self.thread.wait_for(self._close())
            self.thread.close()

    async def _close(self) -> None:
        self._renewal.result.cancel()
        waiting, self._waiting = self._waiting, collections.deque()
        for item in waiting:
            if not item.answer.done():
                item.answer.set_exception(EmulatorError("The run is ending."))
        workers = list(self._workers.values())
        await asyncio.gather(*(environment.stop() for environment in self._environments.values()))
        self._wake_all()
        await asyncio.gather(*workers)

    # For the workers

    def _wake_one(self) -> None:
        if self._sleepers:
            sleeper = next(iter(self._sleepers))
            del self._sleepers[sleeper]
            sleeper.set_result(None)

    def _wake_all(self) -> None:
        while self._sleepers:
            self._wake_one()

    def _hire(self, number: int, environment: Pooled | None) -> None:
        if self._closed or number in self._workers:
            return
        self._free += 1
        self._workers[number] = asyncio.ensure_future(_Worker(self, number, environment, self._renewal).run())

    async def _take(self, renewal: _Renewal) -> _Waiting | _Renewal | None:
        """Wait for a later renewal, or for an event that is not cancelled. None if the pool is closed."""
        while True:
            if self._closed:
                return None
            if self._renewal is not renewal:
                return self._renewal
            while self._waiting:
                item = self._waiting.popleft()
                if item.claim():
                    self._free -= 1
                    return item
            sleeper: asyncio.Future[None] = self.thread.loop.create_future()
            self._sleepers[sleeper] = None
            await sleeper

    async def _fresh(self, number: int) -> tuple[Pooled, InvokeResult | None]:
        environment = self._make(number)
        await environment.start()
        self._environments[number] = environment
        try:
            if self._closed:
                raise EmulatorError("The pool is closed.")
            return environment, await environment.initialise(self._first_event) if self._first_event else None
        except BaseException:
            await self._discard(number, environment)
            raise

    async def _try_fresh(self, number: int) -> tuple[Pooled | None, EmulatorError | None]:
        try:
            return (await self._fresh(number))[0], None
        except EmulatorError as error:
            if not self._closed:
                self._on_note(f"Environment {number} did not start. {error}")
            return None, error

    async def _discard(self, number: int, environment: Pooled) -> None:
        await environment.stop()
        self._environments.pop(number, None)

    def _retire(self, number: int) -> bool:
        """End a worker without an environment; the last worker stays to answer clients. Returns whether it ended."""
        if not self._closed and len(self._workers) == 1:
            return False
        self._workers.pop(number, None)
        self._free -= 1
        return True


class _Worker:
    """The task of one environment: it takes events, runs them, and replaces a lost or outdated environment.

    It is a part of the pool, and so it uses the pool's private methods.

    Args:
        environment: None if the worker shall start one itself.
        renewal: the last renewal before this environment was made.
    """

    def __init__(self, pool: Pool, number: int, environment: Pooled | None, renewal: _Renewal) -> None:
        self._pool = pool
        self._number = number
        self._environment = environment
        self._renewal = renewal
        self._problem: EmulatorError | None = None

    async def run(self) -> None:
        """Work until the pool is closed, or until the pool needs this worker no more."""
        pool = self._pool
        claimed: _Renewal | None = None
        while True:
            if self._environment is None:
                self._environment, self._problem = await pool._try_fresh(self._number)
                if claimed is not None:
                    claimed.result.set_result(self._problem)
                    claimed = None
                if self._environment is None and pool._retire(self._number):
                    return
            item = await pool._take(self._renewal)
            if item is None:
                return
            if isinstance(item, _Renewal):
                self._renewal = item
                await self._drop()
                if item.claim():
                    claimed = item
                elif pool._retire(self._number):
                    return
                continue
            answer = await self._answer(item)
            if isinstance(answer, AnswerStream):
                item.settle(answer)
                if not await answer.sent:
                    await self._idle()
                pool._free += 1
            else:
                # Before the answer is sent, so that a client that sends one event after another needs one environment.
                pool._free += 1
                item.settle(answer)

    async def _idle(self) -> None:
        if self._environment is not None:
            await self._environment.idle()

    async def _answer(self, item: _Waiting) -> Answer:
        pool, number = self._pool, self._number
        try:
            for _ in range(TRIES):
                environment = await self._living()
                if environment is None:
                    break
                with contextlib.suppress(NotTakenError):
                    return await environment.invoke(item.event, item.client_context)
        except EnvironmentLostError as error:
            if not pool._closed:
                pool._on_note(f"Environment {number} ended during a request: starting another.")
                await self._drop()
            self._problem = error
        return InvokeResult.failure("Sandbox.Failure", str(self._problem))

    async def _living(self) -> Pooled | None:
        """The environment, or a new one if it has ended. None if it cannot be started."""
        pool, number = self._pool, self._number
        if self._environment is not None and not self._environment.alive and not pool._closed:
            pool._on_note(f"Environment {number} has ended: starting another.")
            await self._drop()
            self._environment, self._problem = await pool._try_fresh(number)
        return self._environment

    async def _drop(self) -> None:
        if self._environment is not None:
            await self._pool._discard(self._number, self._environment)
            self._environment = None


async def _joined(stream: AnswerStream) -> InvokeResult:
    try:
        return InvokeResult(await stream.joined())
    except BrokenStreamError as error:
        return InvokeResult.failure(error.kind, str(error))
    finally:
        stream.close()
