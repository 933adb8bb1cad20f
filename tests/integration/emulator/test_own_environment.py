"""One execution environment with a Runtime API of our own, asked by AWS's runtime client and by hand."""

import http.client
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from integration.emulator.conftest import event, function_of, said, wait_until
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.function import PAYLOAD_LIMIT, InvokeResult, NotTakenError
from lambda_torch.emulator.guardian import members
from lambda_torch.emulator.loop_thread import LoopThread
from lambda_torch.emulator.processes import Processes
from lambda_torch.errors import InitError


class Asked:
    """An environment that a test asks from outside its loop."""

    def __init__(self, environment: Environment, thread: LoopThread) -> None:
        self.environment = environment
        self._thread = thread

    def invoke(self, payload: bytes) -> InvokeResult:
        """Its answer to an event."""
        answer = self.wait_for(self.environment.invoke(payload))
        assert isinstance(answer, InvokeResult)
        return answer

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the loop."""
        return self._thread.wait_for(work)


Make = Callable[..., Asked]


@pytest.fixture
def make(processes: Processes, tmp_path: Path) -> Iterator[Make]:
    """Makes started environments of the probe; keyword arguments are the function's."""
    with closing(LoopThread("test")) as thread:
        made: list[Asked] = []

        async def started(environment: Environment) -> None:
            await environment.start()

        def start(on_line: Callable[[str], None] | None = None, **configuration: Any) -> Asked:
            environment = Environment(function_of(configuration), processes, tmp_path, "probe", on_line)
            thread.wait_for(started(environment))
            made.append(Asked(environment, thread))
            return made[-1]

        yield start
        for each in made:
            each.wait_for(each.environment.stop())


def test_events_go_to_one_process(make: Make) -> None:
    """Events are answered by one process; its start-up is measured."""
    asked = make()
    first, second = asked.invoke(event(a=1)), asked.invoke(event(a="é"))
    assert (first.failed, said(first)["event"], said(second)["event"]) == (False, {"a": 1}, {"a": "é"})
    assert said(first)["pid"] == said(second)["pid"]
    assert (asked.environment.init_ms or 0) > 0


@pytest.mark.parametrize(
    ("order", "kind", "message"),
    [
        ({"do": "exit"}, "Runtime.ExitError", "Runtime exited with error: exit status 7"),
        ({"do": "sleep", "seconds": 60}, "Sandbox.Timedout", "Task timed out after 2.00 seconds"),
    ],
)
def test_an_environment_ends_with_its_process(make: Make, order: dict[str, Any], kind: str, message: str) -> None:
    """If the process exits or takes too long, that event fails in Lambda's words, and later events are not taken."""
    asked = make(timeout_seconds=2)
    assert not asked.invoke(event()).failed
    outcome = asked.invoke(event(**order))
    assert (outcome.failed, said(outcome)["errorType"]) == (True, kind)
    assert said(outcome)["errorMessage"].endswith(message)
    assert wait_until(lambda: not asked.environment.alive)
    with pytest.raises(NotTakenError):
        asked.invoke(event())


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("FAIL_AT_START", "ValueError: the start-up of the probe fails\n  File .*, line "),
        ("EXIT_AT_START", "its process ended. The last lines of its log:"),
        ("SLEEP_AT_START", "it took more than 2 s. Next: give it more time with --timeout."),
    ],
)
def test_a_start_up_that_fails_is_told_with_its_reason(make: Make, variable: str, reason: str) -> None:
    """A module that raises gives the exception and its place; one that exits, the end of its log; a slow one, its time."""
    asked = make(variables={variable: "60"}, timeout_seconds=2 if variable.startswith("SLEEP") else 30)
    with pytest.raises(InitError, match=rf"The function does not start: {reason}") as raised:
        asked.wait_for(asked.environment.initialise(event()))
    assert "importlib" not in str(raised.value)


def test_snapstart_restores_at_once(make: Make) -> None:
    """A function of that kind asks for its restore, and then for its events."""
    asked = make(variables={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
    assert said(asked.invoke(event(a=1)))["event"] == {"a": 1}


def test_an_answer_that_is_too_large_is_a_failure(make: Make) -> None:
    """An event at the limit arrives whole; an answer over it is refused in Lambda's words, and larger events at once."""
    asked = make()
    fill = PAYLOAD_LIMIT - len(event(text=""))
    outcome = asked.invoke(event(text="\u0001" * (fill // 6)))  # six bytes each as JSON, in both directions
    assert not outcome.failed
    outcome = asked.invoke(event(do="none", text="x" * (fill - len('"do": "none", '))))
    assert "errorType" not in said(outcome)
    with pytest.raises(ValueError, match=r"Lambda's limit is"):
        asked.invoke(event(text="x" * (fill + 1)))


def test_stopping_leaves_no_process_and_no_folder(make: Make) -> None:
    """The process, what it started and its /tmp are gone after the stop."""
    asked = make()
    seen = said(asked.invoke(event(do="describe")))["variables"]
    session = os.getsid(said(asked.invoke(event(do="spawn"))))
    assert len(members(session)) >= 2
    asked.wait_for(asked.environment.stop())
    assert members(session) == []
    assert not Path(seen["TMPDIR"]).exists()


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "NotFound"),
        ("POST", "/2018-06-01/runtime/invocation/next", 404, "NotFound"),
        ("POST", "/2018-06-01/runtime/invocation/no-such-id/response", 400, "InvalidRequestID"),
        ("POST", "/2018-06-01/runtime/invocation/no-such-id/error", 400, "InvalidRequestID"),
    ],
)
def test_requests_that_the_runtime_api_does_not_know(
    make: Make, method: str, path: str, status: int, kind: str
) -> None:
    """Unknown paths and identifiers are refused with Lambda's types of errors, and the function goes on."""
    asked = make()
    address = said(asked.invoke(event(do="describe")))["variables"]["AWS_LAMBDA_RUNTIME_API"]
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request(method, path, b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["errorType"]) == (status, kind)
    assert not asked.invoke(event()).failed


def test_the_log_reaches_its_reader(make: Make) -> None:
    """What the function prints is passed on line by line, and nothing else is."""
    lines: list[str] = []
    asked = make(on_line=lines.append)
    asked.invoke(event(do="write", text="grüße"))
    asked.wait_for(asked.environment.stop())
    assert lines == ["grüße"]
