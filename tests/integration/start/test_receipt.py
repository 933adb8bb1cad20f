import json
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from integration.conftest import StartFunction
    from integration.start.conftest import StartFresh

CONTEXT = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")
SECRET = "Attila-the-secret"


def sent(app: ModuleType, capsys: pytest.CaptureFixture[str], body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer to a request, and the line it left in the log."""
    capsys.readouterr()
    answer = app.lambda_handler({"httpMethod": "POST", "path": "/predict", "body": json.dumps(body)}, CONTEXT)
    (line,) = [each for each in map(json.loads, capsys.readouterr().out.splitlines()) if each["message"] == "request"]
    return answer, line


def timings(answer: dict[str, Any]) -> dict[str, float]:
    """The phases of `Server-Timing`, in milliseconds."""
    found = {}
    for metric in answer["headers"]["Server-Timing"].split(", "):
        name, duration, *_ = metric.split(";")
        found[name] = float(duration.removeprefix("dur="))
    return found


def test_a_fresh_process_accounts_for_its_start(start_fresh: "StartFresh") -> None:
    """The first answer of a new process says where its start went, in one log line and in Server-Timing, part by part."""
    started = start_fresh()
    assert started.answer["statusCode"] == 200
    (line,) = [each for each in started.lines if each["message"] == "request"]
    phases = line["start"]["phases"]
    expected = {"runtime", "pydantic", "torch", "dlopen", "model", "pointer", "fetch", "verify", "load", "warm-up"}
    assert expected <= set(phases)
    assert phases["dlopen"]["ms"] < phases["torch"]["ms"] < phases["model"]["ms"]
    assert phases["runtime"]["at"] == 0
    ends = [phase["at"] + phase["ms"] for phase in phases.values()]
    assert max(ends) <= line["start"]["ms"] + 1
    assert line["StartMilliseconds"] == pytest.approx(line["start"]["ms"], abs=1)
    assert line["ColdStarts"] == 1
    assert line["start"]["peak_bytes"] > 50e6
    assert (expected | {"parse", "predict", "total"}) <= set(timings(started.answer))


def test_how_lambda_started_the_environment_is_said(start_fresh: "StartFresh") -> None:
    """A start ahead of the requests (provisioned concurrency) can be told from one that a client waited for."""
    started = start_fresh(AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency")
    assert started.lines[-1]["start"]["kind"] == "provisioned-concurrency"


def test_later_requests_account_for_themselves(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A request has its own phases, and they fit into its total."""
    sent(app, capsys, {"category": "Russian", "start_letters": "R"})
    answer, line = sent(app, capsys, {"category": "Russian", "start_letters": "RUS"})
    phases = timings(answer)
    assert set(phases) == {"parse", "predict", "total"}
    assert phases["parse"] + phases["predict"] <= phases["total"]
    assert line["phases"] == pytest.approx(phases, abs=0.001)
    assert line["ms"] == line["phases"]["total"]
    assert (line["Requests"], line["PredictMilliseconds"]) == (1, line["phases"]["predict"])
    assert line["ReleaseAgeSeconds"] > 0
    assert "Errors" not in line


def test_browsers_of_other_pages_may_read_the_timing(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """CORS exposes the header to scripts, and Timing-Allow-Origin to the browser's own measurements."""
    answer, _ = sent(app, capsys, {"category": "Russian", "start_letters": "R"})
    exposed = answer["headers"]["Access-Control-Expose-Headers"].split(", ")
    assert {"Server-Timing", "X-Model-Version"} == set(exposed)
    assert answer["headers"]["Timing-Allow-Origin"] == "*"


def test_a_listed_origin_may_read_the_timing_and_no_other(
    start_function: "StartFunction", published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With CORS_ORIGINS set, Timing-Allow-Origin names what Access-Control-Allow-Origin names."""
    app = start_function(MODEL_BUCKET=published, CORS_ORIGINS="https://a.example,https://b.example")
    for origin, allowed in (("https://b.example", "https://b.example"), ("https://c.example", "https://a.example")):
        event = {"httpMethod": "GET", "path": "/health", "headers": {"Origin": origin}}
        headers = app.lambda_handler(event, CONTEXT)["headers"]
        assert (headers["Access-Control-Allow-Origin"], headers["Timing-Allow-Origin"]) == (allowed, allowed)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"category": SECRET, "start_letters": "R"}, "unknown_category"),
        ({"category": "Russian", "start_letters": SECRET + "☃"}, "unknown_letters"),
        ({"category": "Russian", "start_letters": "R", SECRET: 1}, "invalid_request"),
        ({"category": "Russian", "start_letters": "ABC"}, None),
    ],
)
def test_the_log_has_the_code_and_nothing_of_the_request(
    app: ModuleType, capsys: pytest.CaptureFixture[str], body: Any, code: str | None
) -> None:
    """Errors are counted by their code; what the client sent is not in the log."""
    _, line = sent(app, capsys, body)
    assert line.get("code") == code
    assert line.get("Errors") == (None if code is None else 1)
    text = json.dumps(line)
    assert SECRET not in text
    assert "ABC" not in text


def test_a_defect_is_counted_and_its_trace_logged(
    app: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that raises counts as internal_error, and the log has both the trace and the request's line."""
    monkeypatch.setattr(app.service.follower.peek().model, "predict", lambda requests: 1 / 0)
    answer, line = sent(app, capsys, {"category": "Russian", "start_letters": "R"})
    assert answer["statusCode"] == 500
    assert (line["code"], line["Errors"]) == ("internal_error", 1)
    assert "predict" in line["phases"]
