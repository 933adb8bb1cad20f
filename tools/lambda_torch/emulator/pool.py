"""Environments that take events from one queue.

As on Lambda, the load starts environments: if all are busy, an event starts another one, up to the size of the pool.
The first environment that is free takes the event. Unlike on Lambda, more events wait and are not throttled.
"""

import collections
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from lambda_torch.emulator.environment import PAYLOAD_LIMIT, Environment, InvokeResult
from lambda_torch.errors import EmulatorError, EnvironmentLostError

MakeEnvironment = Callable[[int], Environment]


class PayloadTooLargeError(ValueError):
    """The event is larger than Lambda's limit."""


class _Waiting(NamedTuple):
    event: bytes
    client_context: str | None
    result: "Future[InvokeResult]"


class _Renewal(NamedTuple):
    number: int
    result: "Future[EmulatorError | None]"


class Pool:
    """A pool of environments. Any thread may call any method.

    Args:
        make: makes the environment with this number (1, 2, ...).
        concurrency: the most environments at the same time.
        first_event: the first event of each new environment, which starts its function. With None, the function starts
            at the first real event.
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
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._environments: dict[int, Environment] = {}
        self._threads: list[threading.Thread] = []
        self._workers: set[int] = set()
        self._free = 0  # workers that can take an event now
        self._renewal = _Renewal(0, Future())
        self._closed = False

    def start(self, environments: int = 1) -> InvokeResult | None:
        """Start the first environment, and others at the same time. Returns the first one's answer to the first event.

        Args:
            environments: how many to start, at most the size of the pool.

        Raises:
            EmulatorError: the first environment does not start.
        """
        for number in range(2, environments + 1):
            self._hire(number, None)
        environment, outcome = self._fresh(1)
        self._hire(1, environment)
        return outcome

    def init_ms(self, number: int = 1) -> float | None:
        """Milliseconds of the last init phase of an environment."""
        environment = self._environments.get(number)
        return environment.init_ms if environment else None

    @property
    def size(self) -> int:
        """How many environments there are now, including those that are starting."""
        with self._changed:
            return len(self._workers)

    def submit(self, event: bytes, client_context: str | None = None) -> "Future[InvokeResult]":
        """Queue an event. To drop it, cancel the future before an environment takes the event.

        Raises:
            PayloadTooLargeError: the event is larger than Lambda's limit.
            EmulatorError: the pool is closed.
        """
        if len(event) > PAYLOAD_LIMIT:
            raise PayloadTooLargeError(
                f"Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
            )
        waiting = _Waiting(event, client_context, Future())
        with self._changed:
            if self._closed:
                raise EmulatorError("The pool is closed.")
            self._waiting.append(waiting)
            more = len(self._waiting) > self._free and len(self._workers) < self._concurrency
            number = min(set(range(1, self._concurrency + 1)) - self._workers) if more else None
            self._changed.notify()
        if number is not None:
            self._on_note(f"All environments are busy: starting number {number}.")
            self._hire(number, None)
        return waiting.result

    def renew(self) -> "Future[EmulatorError | None]":
        """Replace all environments by one new environment, for new code of the function. The load starts more.

        Running events end in the old environments. Waiting and later events go to the new one. The result is set when
        the new environment has started. It is None, or the reason why it does not start. Then the next event tries
        again.

        Raises:
            EmulatorError: the pool is closed.
        """
        with self._changed:
            if self._closed:
                raise EmulatorError("The pool is closed.")
            self._renewal.result.cancel()
            self._renewal = _Renewal(self._renewal.number + 1, Future())
            self._changed.notify_all()
            return self._renewal.result

    def close(self) -> None:
        """Stop all environments. Running events fail, and waiting events are cancelled."""
        with self._changed:
            self._closed = True
            self._renewal.result.cancel()
            waiting, self._waiting = self._waiting, collections.deque()
            environments = list(self._environments.values())
            threads = list(self._threads)
            self._changed.notify_all()
        for item in waiting:
            item.result.cancel()
        for environment in environments:
            environment.stop()
        for thread in threads:
            thread.join()

    def _hire(self, number: int, environment: Environment | None) -> None:
        with self._changed:
            if self._closed or number in self._workers:
                return
            worker = _Worker(self, number, environment, self._renewal)
            thread = threading.Thread(target=worker.run, name=f"environment {number}", daemon=True)
            self._workers.add(number)
            self._free += 1
            self._threads.append(thread)
        thread.start()

    def _take(self, renewal: _Renewal) -> _Waiting | _Renewal | None:
        """Wait for a later renewal, or for an event that is not cancelled. None if the pool is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed or self._renewal is not renewal)
                if self._closed:
                    return None
                if self._renewal is not renewal:
                    return self._renewal
                item = self._waiting.popleft()
                if item.result.set_running_or_notify_cancel():
                    self._free -= 1
                    return item

    def _claim(self, renewal: _Renewal) -> bool:
        """Whether the caller is the first for this renewal, which starts one environment even if there were several."""
        with self._changed:
            result = renewal.result
            return not result.running() and not result.done() and result.set_running_or_notify_cancel()

    def _fresh(self, number: int) -> tuple[Environment, InvokeResult | None]:
        environment = self._make(number)
        with self._changed:
            self._environments[number] = environment
            closed = self._closed
        try:
            if closed:
                raise EmulatorError("The pool is closed.")
            return environment, environment.initialise(self._first_event) if self._first_event is not None else None
        except BaseException:
            self._discard(number, environment)
            raise

    def _try_fresh(self, number: int) -> tuple[Environment | None, EmulatorError | None]:
        try:
            return self._fresh(number)[0], None
        except EmulatorError as error:
            if not self._closed:
                self._on_note(f"Environment {number} did not start. {error}")
            return None, error

    def _discard(self, number: int, environment: Environment) -> None:
        environment.stop()
        with self._changed:
            self._environments.pop(number, None)

    def _retire(self, number: int) -> bool:
        """End a worker without an environment; the last worker stays to answer clients. Returns whether it ended."""
        with self._changed:
            if not self._closed and len(self._workers) == 1:
                return False
            self._workers.discard(number)
            self._free -= 1
            return True


class _Worker:
    """The thread of one environment: it takes events, runs them, and replaces a lost or outdated environment.

    It is a part of the pool, and so it uses the pool's private methods.

    Args:
        environment: None if the worker shall start one itself.
        renewal: the last renewal before this environment was made.
    """

    def __init__(self, pool: Pool, number: int, environment: Environment | None, renewal: _Renewal) -> None:
        self._pool = pool
        self._number = number
        self._environment = environment
        self._renewal = renewal
        self._problem: EmulatorError | None = None

    def run(self) -> None:
        """Work until the pool is closed, or until the pool needs this worker no more."""
        pool, claimed = self._pool, None
        while True:
            if self._environment is None:
                self._environment, self._problem = pool._try_fresh(self._number)
                if claimed is not None:
                    claimed.result.set_result(self._problem)
                    claimed = None
                if self._environment is None and pool._retire(self._number):
                    return
            item = pool._take(self._renewal)
            if item is None:
                return
            if isinstance(item, _Renewal):
                self._renewal = item
                self._drop()
                if pool._claim(item):
                    claimed = item
                elif pool._retire(self._number):
                    return
                continue
            outcome = self._answer(item)
            # Before the answer is sent, so that a client that sends one event after another needs one environment.
            with pool._changed:
                pool._free += 1
            item.result.set_result(outcome)

    def _answer(self, item: _Waiting) -> InvokeResult:
        pool, number = self._pool, self._number
        if self._environment is not None and not self._environment.alive:
            pool._on_note(f"Environment {number} has ended: starting another.")
            self._drop()
            self._environment, self._problem = pool._try_fresh(number)
        if self._environment is None:
            return InvokeResult.failure("Sandbox.Failure", str(self._problem))
        try:
            return self._environment.invoke(item.event, item.client_context)
        except EnvironmentLostError as error:
            if not pool._closed:
                pool._on_note(f"Environment {number} ended during a request: starting another.")
            self._drop()
            return InvokeResult.failure("Sandbox.Failure", str(error))

    def _drop(self) -> None:
        if self._environment is not None:
            self._pool._discard(self._number, self._environment)
            self._environment = None
