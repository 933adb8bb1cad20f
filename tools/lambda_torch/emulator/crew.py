"""The environments of a pool and their queue, on one event loop. `pool` is the side for other threads.

Each environment has a worker: a task that takes events, and replaces the environment when it is lost or outdated.
"""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from lambda_torch.emulator.answer_stream import AnswerStream
from lambda_torch.emulator.function import InvokeResult, NotTakenError
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
    def process(self) -> int:
        """The id of its first process. The environment ends with it."""

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


class Waiting:
    """An event in the queue. `claim` says whether a client still waits for the answer."""

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


class Renewal:
    """An order to start from the function's code as it is now. `result` is set when that is done, or does not work."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.result: Future[EmulatorError | None] = Future()

    def claim(self) -> bool:
        """Whether the caller is the first, which starts one environment even if there were several."""
        result = self.result
        return not result.running() and not result.done() and result.set_running_or_notify_cancel()


class Crew:
    """Environments that take events from one queue. Only for the loop, but for reading attributes.

    Args: as of `lambda_torch.emulator.pool.Pool`.

    Attributes:
        free: how many workers can take an event now.
        closed: whether no more events are taken.
        note: called with one sentence when an environment is started or lost.
    """

    def __init__(
        self, make: MakeEnvironment, concurrency: int, first_event: bytes | None, note: Callable[[str], None]
    ) -> None:
        self._make = make
        self._concurrency = concurrency
        self._first_event = first_event
        self.note = note
        self._waiting: collections.deque[Waiting] = collections.deque()
        self._environments: dict[int, Pooled] = {}
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._sleepers: dict[asyncio.Future[None], None] = {}
        self._renewal = Renewal(0)
        self.free = 0
        self.closed = False

    @property
    def size(self) -> int:
        """How many environments there are now, including those that are starting."""
        return len(self._workers)

    def init_ms(self, number: int) -> float | None:
        """Milliseconds of the start-up of an environment."""
        environment = self._environments.get(number)
        return environment.init_ms if environment else None

    def processes(self) -> list[int]:
        """The first process of each environment."""
        return [environment.process for environment in list(self._environments.values())]

    async def start(self, environments: int) -> InvokeResult | None:
        """Start the first environment, and others at the same time. Raises EmulatorError if the first does not start."""
        for number in range(2, environments + 1):
            self._hire(number, None)
        environment, outcome = await self._fresh(1)
        self._hire(1, environment)
        return outcome

    def queue(
        self, event: bytes, client_context: str | None, claim: Callable[[], bool] | None
    ) -> "asyncio.Future[Answer]":
        """Queue an event. `claim` is called when an environment takes it, and says whether it is still wanted."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(event, client_context, answer, claim or (lambda: not answer.done())))
        if len(self._waiting) > self.free and len(self._workers) < self._concurrency:
            number = min(set(range(1, self._concurrency + 1)) - self._workers.keys())
            self.note(f"All environments are busy: starting number {number}.")
            self._hire(number, None)
        self._wake_one()
        return answer

    async def renew(self) -> "Future[EmulatorError | None]":
        """Replace all environments by a new one. The result is set when it has started, or does not start."""
        self._renewal.result.cancel()
        self._renewal = Renewal(self._renewal.number + 1)
        self._wake_all()
        return self._renewal.result

    async def close(self) -> None:
        """Stop all environments. Running events fail, and waiting events too."""
        self.closed = True
        self._renewal.result.cancel()
        waiting, self._waiting = self._waiting, collections.deque()
        for item in waiting:
            if not item.answer.done():
                item.answer.set_exception(EmulatorError("The run is ending."))
        workers = list(self._workers.values())
        await asyncio.gather(*(environment.stop() for environment in self._environments.values()))
        self._wake_all()
        await asyncio.gather(*workers)

    def _wake_one(self) -> None:
        if self._sleepers:
            sleeper = next(iter(self._sleepers))
            del self._sleepers[sleeper]
            sleeper.set_result(None)

    def _wake_all(self) -> None:
        while self._sleepers:
            self._wake_one()

    def _hire(self, number: int, environment: Pooled | None) -> None:
        if self.closed or number in self._workers:
            return
        self.free += 1
        self._workers[number] = asyncio.ensure_future(Worker(self, number, environment, self._renewal).run())

    async def take(self, renewal: Renewal) -> Waiting | Renewal | None:
        """Wait for a later renewal, or for an event that is not cancelled. None if the pool is closed."""
        while True:
            if self.closed:
                return None
            if self._renewal is not renewal:
                return self._renewal
            while self._waiting:
                item = self._waiting.popleft()
                if item.claim():
                    self.free -= 1
                    return item
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers[sleeper] = None
            await sleeper

    async def _fresh(self, number: int) -> tuple[Pooled, InvokeResult | None]:
        environment = self._make(number)
        await environment.start()
        self._environments[number] = environment
        try:
            if self.closed:
                raise EmulatorError("The pool is closed.")
            return environment, await environment.initialise(self._first_event) if self._first_event else None
        except BaseException:
            await self.discard(number, environment)
            raise

    async def try_fresh(self, number: int) -> tuple[Pooled | None, EmulatorError | None]:
        """A new environment that has started, or the reason why it did not."""
        try:
            return (await self._fresh(number))[0], None
        except EmulatorError as error:
            if not self.closed:
                self.note(f"Environment {number} did not start. {error}")
            return None, error

    async def discard(self, number: int, environment: Pooled) -> None:
        """Stop an environment and forget it."""
        await environment.stop()
        self._environments.pop(number, None)

    def retire(self, number: int) -> bool:
        """End a worker without an environment; the last worker stays to answer clients. Returns whether it ended."""
        if not self.closed and len(self._workers) == 1:
            return False
        self._workers.pop(number, None)
        self.free -= 1
        return True


class Worker:
    """The task of one environment: it takes events, runs them, and replaces a lost or outdated environment.

    Args:
        environment: None if the worker shall start one itself.
        renewal: the last renewal before this environment was made.
    """

    def __init__(self, crew: Crew, number: int, environment: Pooled | None, renewal: Renewal) -> None:
        self._crew = crew
        self._number = number
        self._environment = environment
        self._renewal = renewal
        self._problem: EmulatorError | None = None

    async def run(self) -> None:
        """Work until the crew is closed, or until it needs this worker no more."""
        crew = self._crew
        claimed: Renewal | None = None
        while True:
            if self._environment is None:
                self._environment, self._problem = await crew.try_fresh(self._number)
                if claimed is not None:
                    claimed.result.set_result(self._problem)
                    claimed = None
                if self._environment is None and crew.retire(self._number):
                    return
            item = await crew.take(self._renewal)
            if item is None:
                return
            if isinstance(item, Renewal):
                self._renewal = item
                await self._drop()
                if item.claim():
                    claimed = item
                elif crew.retire(self._number):
                    return
                continue
            answer = await self._answer(item)
            if isinstance(answer, AnswerStream):
                item.settle(answer)
                if not await answer.sent:
                    await self._idle()
                crew.free += 1
            else:
                # Before the answer is sent, so that a client that sends one event after another needs one environment.
                crew.free += 1
                item.settle(answer)

    async def _idle(self) -> None:
        if self._environment is not None:
            await self._environment.idle()

    async def _answer(self, item: Waiting) -> Answer:
        crew, number = self._crew, self._number
        try:
            for _ in range(TRIES):
                environment = await self._living()
                if environment is None:
                    break
                with contextlib.suppress(NotTakenError):
                    return await environment.invoke(item.event, item.client_context)
        except EnvironmentLostError as error:
            if not crew.closed:
                crew.note(f"Environment {number} ended during a request: starting another.")
                await self._drop()
            self._problem = error
        return InvokeResult.failure("Sandbox.Failure", str(self._problem))

    async def _living(self) -> Pooled | None:
        """The environment, or a new one if it has ended. None if it cannot be started."""
        crew, number = self._crew, self._number
        if self._environment is not None and not self._environment.alive and not crew.closed:
            crew.note(f"Environment {number} has ended: starting another.")
            await self._drop()
            self._environment, self._problem = await crew.try_fresh(number)
        return self._environment

    async def _drop(self) -> None:
        if self._environment is not None:
            await self._crew.discard(self._number, self._environment)
            self._environment = None
