"""The place in Lambda's runtime client that streams are sent from: it is taken only where everything is as expected."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from serving.runtime import hook
from serving.runtime.answer import StreamedAnswer
from serving.settings import Settings
from serving.telemetry.log import Log

LOG = Log("INFO")


def client(post: Callable[..., Any] | None, marshal: Callable[..., Any] | None = None) -> type:
    """A runtime client's class."""
    marshaller = SimpleNamespace(marshal_response=marshal or (lambda response: (response, "application/unknown")))
    members: dict[str, Any] = {"marshaller": marshaller}
    if post is not None:
        members[hook.METHOD] = post
    return type("LambdaRuntimeClient", (type("BaseLambdaRuntimeClient", (), members),), {})


def posted(self: Any, invoke_id: str, result_data: Any, content_type: str = "application/json") -> Any:
    """What an older client has, without the id of an invocation."""
    return (self, invoke_id, result_data, content_type)


def fail(_response: Any) -> Any:
    """A marshaller that takes no bytes."""
    raise ValueError("not JSON")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[type | None], None]:
    """Makes this process look as if that client ran it."""

    def run(kind: type | None) -> None:
        module = ModuleType(hook.CLIENT)
        if kind is not None:
            module.LambdaRuntimeClient = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, hook.CLIENT, module)

    return run


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "does not exist"),
        (client(None), "has no method post_invocation_result"),
        (client(lambda self, request_id, result: None), "takes (self, request_id, result) and not"),
        (client(lambda self, *everything: None), "takes (self, everything) and not"),
        (client(posted, fail), "is not as expected: ValueError: not JSON"),
        (client(posted, lambda response: (bytes(response), "")), "does not pass bytes on as they are"),
        (client(posted, lambda response: response), "is not as expected"),
        (client(3), "is not as expected: TypeError"),  # type: ignore[arg-type]
    ],
)
def test_another_client_is_left_as_it_is(
    running: Callable[[type | None], None], kind: type | None, reason: str
) -> None:
    """Each difference is a reason by itself, and then no method is replaced."""
    running(kind)
    before = getattr(kind, hook.METHOD, None)
    found = hook.install("127.0.0.1:9001", LOG)
    assert found is not None
    assert reason in found
    assert getattr(kind, hook.METHOD, None) is before


def test_outside_lambda_there_is_nothing_to_hook_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Runtime API or without its client, the reason says so."""
    assert "AWS_LAMBDA_RUNTIME_API is not set" in (hook.install(None, LOG) or "")
    monkeypatch.delitem(sys.modules, hook.CLIENT, raising=False)
    assert "not run by Lambda's runtime client" in (hook.install("127.0.0.1:9001", LOG) or "")


def test_whole_answers_go_the_clients_own_way(running: Callable[[type | None], None]) -> None:
    """What is no stream reaches the client's own method with all that the loop gave it."""
    kind = client(posted)
    running(kind)
    assert hook.install("127.0.0.1:9001", LOG) is None
    seen: list[Any] = []
    base: Any = kind.__mro__[1]
    assert getattr(kind, hook.METHOD) is getattr(base, hook.METHOD) is not posted
    running(
        watched := client(lambda self, invoke_id, result_data, *more, **named: seen.append((result_data, more, named)))
    )
    assert hook.install("127.0.0.1:9001", LOG) is None
    made: Any = watched()
    made.post_invocation_result("id", "{}", "application/json", invocation_id="one")
    assert seen == [("{}", ("application/json",), {"invocation_id": "one"})]


def test_the_reason_is_logged_and_answers_are_collected(capsys: pytest.CaptureFixture[str]) -> None:
    """Under SAM's emulator, say, the function knows that it does not stream."""
    settings = Settings.from_environment({"RESPONSE_STREAMING": "api", "AWS_SAM_LOCAL": "true"})
    assert hook.prepared(settings, LOG, settings.streams) == frozenset()
    assert "SAM's emulator cannot stream" in capsys.readouterr().out


def test_awss_own_client_is_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client that this project is tested with can be hooked into, and is put back here."""
    from awslambdaric.lambda_runtime_client import BaseLambdaRuntimeClient

    monkeypatch.setattr(BaseLambdaRuntimeClient, hook.METHOD, vars(BaseLambdaRuntimeClient)[hook.METHOD])
    assert hook.install("127.0.0.1:9001", LOG) is None
    passed, _ = BaseLambdaRuntimeClient.marshaller.marshal_response(answer := StreamedAnswer())
    assert passed is answer
