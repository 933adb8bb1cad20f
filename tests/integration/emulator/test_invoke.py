"""`lambda-torch invoke`: where it sends an event, what it prints, and its exit status."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from integration.emulator.conftest import MakeEnvironment, MakePool
from lambda_torch import project
from lambda_torch.cli import main
from lambda_torch.emulator import run
from lambda_torch.emulator.invoke_api import InvokeApi


@pytest.fixture(autouse=True)
def _no_other_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NOTE", tmp_path / "serving.json")


def invoke(*arguments: str, event: str | bytes = "{}") -> Result:
    """Run the command with an event on standard input."""
    return CliRunner(mix_stderr=False).invoke(main, ["invoke", "-", *arguments], input=event)


@pytest.fixture
def url(make_pool: MakePool) -> Iterator[str]:
    """The address of an Invoke API with the probe behind it."""
    pool = make_pool()
    pool.start()
    with run.listen("127.0.0.1", 0) as taken, run.serving(InvokeApi(pool, "probe", 60), taken) as address:
        yield address


def test_the_answer_is_printed_as_readable_json(url: str) -> None:
    """The answer is indented JSON on standard output, letters as they are; the status is 0."""
    done = invoke("--url", url, event='{"a": "é"}')
    assert (done.exit_code, done.stderr) == (0, "")
    assert '    "a": "é"' in done.stdout
    assert json.loads(done.stdout)["event"] == {"a": "é"}


@pytest.mark.parametrize("event", ["[]", '[{"category": "Russian"}, 1]', '"text"', "null"])
def test_any_json_is_an_event(url: str, event: str) -> None:
    """As with Lambda itself, an event may be any JSON value: a list of requests arrives as that list."""
    done = invoke("--url", url, event=event)
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["event"] == json.loads(event)


@pytest.mark.parametrize(("order", "kind"), [("raise", "RuntimeError"), ("exit", "Runtime.ExitError")])
def test_a_failed_function_is_status_1(url: str, order: str, kind: str) -> None:
    """When the function fails, its error is printed as the answer, and the status is 1."""
    done = invoke("--url", url, event=json.dumps({"do": order}))
    assert done.exit_code == 1
    assert json.loads(done.stdout)["errorType"] == kind


def test_a_running_serve_is_found(url: str) -> None:
    """Without --url the event goes to the run that left its note."""
    with run.RunNote(url, "probe", 1).left():
        done = invoke(event='{"n": 1}')
    assert json.loads(done.stdout)["event"] == {"n": 1}


def test_a_bare_emulator_is_an_address_too(make_environment: MakeEnvironment) -> None:
    """--url takes any Runtime Interface Emulator, and failures are recognised there too."""
    address = f"http://127.0.0.1:{make_environment().port}"
    assert json.loads(invoke("--url", address, event='{"n": 2}').stdout)["event"] == {"n": 2}
    assert invoke("--url", address, event='{"do": "raise"}').exit_code == 1


def test_without_a_serve_the_function_is_started_for_the_event(release: Path) -> None:
    """The real function is started, answers one event, and is ended; its log and what happens are on standard error."""
    event = (project.EVENTS / "bare.json").read_text()
    done = invoke("--release", str(release), "--layer", "stock", "--env", "LOG_LEVEL=ERROR", event=event)
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [name[0] for name in json.loads(answer["body"])] == ["R", "U", "S"]
    assert "Starting the function on stock PyTorch" in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    # INFO lines are left out, but for the metrics that they carry.
    assert [(line.get("level"), line["Requests"]) for line in lines] == [(None, 1)]


@pytest.mark.parametrize(
    ("event", "problem"),
    [(b"{", "is not JSON"), (b"", "is not JSON"), (b"\xff", "is not JSON"), (b"{} {}", "is not JSON")],
)
def test_what_is_no_event_is_refused(event: bytes, problem: str) -> None:
    """Input that is not JSON is refused before anything is started or sent."""
    done = invoke("--url", "http://127.0.0.1:9", event=event)
    assert done.exit_code == 1
    assert problem in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--url", "ftp://127.0.0.1"], "is not an http:// address"),
        (["--url", "http://127.0.0.1:9"], "Nothing answers at http://127.0.0.1:9"),
        (["--env", "NAME"], "is not NAME=VALUE"),
        (["--memory", "64"], "--memory"),
        (["--release", "/nowhere"], "/nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_told(arguments: list[str], problem: str) -> None:
    """Each option that cannot be used is named, with what is wrong with it."""
    done = invoke(*arguments)
    assert done.exit_code != 0
    assert problem in done.stderr


def test_a_refused_event_is_told(make_pool: MakePool) -> None:
    """What the Invoke API refuses is an error, not an answer."""
    with contextlib.ExitStack() as stack:
        pool = make_pool()
        taken = stack.enter_context(run.listen("127.0.0.1", 0))
        address = stack.enter_context(run.serving(InvokeApi(pool, "probe", 60), taken))
        done = invoke("--url", address, event=b'{"a": "' + b"x" * 6_300_000 + b'"}')
    assert done.exit_code == 1
    assert "Request must be smaller than 6291456 bytes" in done.stderr
