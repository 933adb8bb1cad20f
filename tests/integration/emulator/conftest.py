"""Real processes: AWS's emulator with AWS's runtime client and a small function, and moto's S3 server."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambda_torch.emulator import software
from lambda_torch.emulator.crew import Pooled
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.function import Function, InvokeResult
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.rie_environment import RieEnvironment, RieInPool

PROBE = Path(__file__).with_name("function")

MakeEnvironment = Callable[..., RieEnvironment]
MakePool = Callable[..., Pool]


def event(**members: Any) -> bytes:
    """An event as it is sent."""
    return json.dumps(members).encode()


def said(outcome: InvokeResult) -> Any:
    """What the function answered."""
    return json.loads(outcome.payload)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """What ends all children of a module's tests."""
    with Processes() as children:
        yield children


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def function_of(configuration: dict[str, Any]) -> Function:
    """The probe, with these members of its configuration."""
    configuration.setdefault("software", software.stock())
    return Function(configuration.pop("code", PROBE), "probe.handler", **configuration)


@pytest.fixture
def make_environment(processes: Processes, tmp_path: Path) -> Iterator[MakeEnvironment]:
    """Makes AWS's emulators of the probe; keyword arguments are the function's. They end with the test."""
    made: list[RieEnvironment] = []

    def make(name: str = "probe", on_line: Callable[[str], None] | None = None, **configuration: Any) -> RieEnvironment:
        environment = RieEnvironment(function_of(configuration), processes, tmp_path, name, on_line)
        made.append(environment)
        return environment

    yield make
    for environment in made:
        environment.stop()


@pytest.fixture(params=[Environment, RieInPool], ids=["own", "shipped"])
def environments(request: pytest.FixtureRequest) -> Any:
    """The environments of a pool: with a Runtime API of our own, and AWS's emulator that SAM ships."""
    return request.param


@pytest.fixture
def make_pool(processes: Processes, tmp_path: Path, environments: Any) -> Iterator[MakePool]:
    """Makes pools of probes; keyword arguments are the function's. They are closed with the test."""
    with contextlib.ExitStack() as stack:

        def make(
            concurrency: int = 2,
            first_event: bytes | None = None,
            on_note: Callable[[str], None] = lambda _: None,
            on_line: Callable[[str], None] | None = None,
            **configuration: Any,
        ) -> Pool:
            function = function_of(configuration)

            def environment(number: int) -> Pooled:
                made: Pooled = environments(function, processes, tmp_path, f"environment {number}", on_line)
                return made

            return stack.enter_context(contextlib.closing(Pool(environment, concurrency, first_event, on_note)))

        yield make
