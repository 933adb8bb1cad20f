"""Environments that take events from one queue.

As on Lambda, load starts environments: an event that finds none idle starts another, up to the pool's size, and is taken by
whichever is free first. Unlike on Lambda, an event beyond that waits instead of being throttled.
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
    """The event is larger than Lambda takes."""


class _Waiting(NamedTuple):
    event: bytes
    client_context: str | None
    result: "Future[InvokeResult]"


class _Renewal(NamedTuple):
    number: int
    result: "Future[EmulatorError | None]"


class Pool:
    """A pool of environments; every method may be called from any thread.

    Args:
        make: makes the environment with this number (1, 2, ...).
        concurrency: the most environments at a time.
        first_event: sent to each new environment before others, so that its start-up happens then; None leaves the start-up
            to the first real event.
        on_note: told, in one sentence for people, what happens to environments.
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
        self._free = 0  # workers that will take an event without having to finish another first
        self._renewal = _Renewal(0, Future())
        self._closed = False

    def start(self, environments: int = 1) -> InvokeResult | None:
        """Start the first environment, and others beside it; what the first one answered to the first event.

        Args:
            environments: how many, at most the pool's size.

        Raises:
            EmulatorError: the first one does not start.
        """
        for number in range(2, environments + 1):
            self._hire(number, None)
        environment, outcome = self._fresh(1)
        self._hire(1, environment)
        return outcome

    def init_ms(self, number: int = 1) -> float | None:
        """Milliseconds of an environment's latest init phase."""
        environment = self._environments.get(number)
        return environment.init_ms if environment else None

    @property
    def size(self) -> int:
        """How many environments there are now, those that are starting included."""
        with self._changed:
            return len(self._workers)

    def submit(self, event: bytes, client_context: str | None = None) -> "Future[InvokeResult]":
        """Queue an event. Cancelling the future before an environment takes the event drops it.

        Raises:
            PayloadTooLargeError: over Lambda's limit.
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
        """Replace all environments by a new one, for a function whose code has changed; load starts more, as ever.

        Events under way end in the old environments; those that wait, and later ones, are for the new one. The result is there
        when it has started: None, or why it does not start, in which case the next event tries again.

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
        """Stop all environments. Events under way fail, and those that wait are cancelled."""
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
            name = f"environment {number}"
            arguments = (number, environment, self._renewal)
            thread = threading.Thread(target=self._work, args=arguments, name=name, daemon=True)
            self._workers.add(number)
            self._free += 1
            self._threads.append(thread)
        thread.start()

    def _work(self, number: int, environment: Environment | None, renewal: _Renewal) -> None:
        """What one environment's thread does: take an event, run it, and replace the environment when it is lost or outdated.

        `renewal` is the last one that came before the environment.
        """
        problem: EmulatorError | None = None
        claimed: _Renewal | None = None
        while True:
            if environment is None:
                environment, problem = self._try_fresh(number)
                if claimed is not None:
                    claimed.result.set_result(problem)
                    claimed = None
                if environment is None and self._retire(number):
                    return
            item = self._take(renewal)
            if item is None:
                return
            if isinstance(item, _Renewal):
                renewal = item
                if environment is not None:
                    self._discard(number, environment)
                    environment = None
                if self._claim(renewal):
                    claimed = renewal
                elif self._retire(number):
                    return
                continue
            if environment is not None and not environment.alive:
                self._on_note(f"Environment {number} is gone: starting another.")
                self._discard(number, environment)
                environment, problem = self._try_fresh(number)
            if environment is None:
                outcome = InvokeResult.failure("Sandbox.Failure", str(problem))
            else:
                try:
                    outcome = environment.invoke(item.event, item.client_context)
                except EnvironmentLostError as error:
                    outcome = InvokeResult.failure("Sandbox.Failure", str(error))
                    if not self._closed:
                        self._on_note(f"Environment {number} was lost with an event: starting another.")
                    self._discard(number, environment)
                    environment = None
            with (
                self._changed
            ):  # before the answer goes out: a client that sends one event after another needs one environment
                self._free += 1
            item.result.set_result(outcome)

    def _take(self, renewal: _Renewal) -> _Waiting | _Renewal | None:
        """Wait for a renewal after this one, or an event that is still wanted; None when the pool is closed."""
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
        """Whether the caller is the first for this renewal: one environment is started, however many there were."""
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
        """Let a worker without an environment go, unless it is the last one: somebody has to tell the clients."""
        with self._changed:
            if not self._closed and len(self._workers) == 1:
                return False
            self._workers.discard(number)
            self._free -= 1
            return True
