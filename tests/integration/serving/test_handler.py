import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_torch.project import EVENTS, ROOT
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving.http import batch

if TYPE_CHECKING:
    from integration.conftest import StartFunction

CONTEXT = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")

# Every file of events/, with the status it is answered with.
STATUS = {
    "api-v1": 200,
    "api-v1-base64": 200,
    "api-v1-batch": 200,
    "api-v1-docs": 200,
    "api-v1-health": 200,
    "api-v1-openapi": 200,
    "api-v1-page": 200,
    "api-v1-root": 200,
    "api-v1-sampled": 200,
    "api-v2": 200,
    "bad-api-v1-broken-json": 400,
    "bad-api-v1-method": 405,
    "bad-api-v1-no-such-route": 404,
    "bad-api-v2-empty-batch": 400,
    "bad-api-v2-unknown-category": 400,
    "bad-api-v2-wrong-type": 400,
    "bad-bare-empty": 400,
    "bad-bare-unknown-letters": 400,
    "bad-preflight-no-such-route": 404,
    "bare": 200,
    "preflight-v1": 204,
    "preflight-v2": 204,
}


def post(app: ModuleType, body: Any) -> tuple[int, Any]:
    """Status and decoded body of `POST /predict` with this body (text as it is, anything else as JSON)."""
    text = body if isinstance(body, str) else json.dumps(body)
    answer = app.lambda_handler({"httpMethod": "POST", "path": "/predict", "headers": {}, "body": text}, CONTEXT)
    return answer["statusCode"], json.loads(answer["body"])


def test_every_file_of_events_is_listed_here() -> None:
    """A new event file comes with the answer it expects."""
    assert {path.stem for path in EVENTS.glob("*.json")} == set(STATUS)


@pytest.mark.parametrize("name", sorted(STATUS))
def test_an_event_is_answered_as_documented(name: str, app: ModuleType) -> None:
    """Every sample event gets its status, CORS headers, and a body of the documented form."""
    answer = app.lambda_handler(json.loads((EVENTS / f"{name}.json").read_text()), CONTEXT)
    assert answer["statusCode"] == STATUS[name]
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"
    if STATUS[name] == 204:
        assert answer["body"] == ""
        assert "POST" in answer["headers"]["Access-Control-Allow-Methods"]
    elif name in ("api-v1-docs", "api-v1-page"):
        assert answer["body"].startswith("<!doctype html>")
    elif STATUS[name] == 200:
        assert len(answer["headers"]["X-Model-Version"]) == 64
    else:
        error = json.loads(answer["body"])["error"]
        assert set(error) == {"code", "message", "details"}
        assert "Traceback" not in answer["body"]


@pytest.mark.parametrize("name", ["api-v1", "api-v1-base64", "api-v1-root", "api-v2", "bare"])
def test_every_kind_of_event_gets_the_same_names(name: str, app: ModuleType) -> None:
    """One name a start letter, each beginning with its letter, whichever door the request came through."""
    answer = app.lambda_handler(json.loads((EVENTS / f"{name}.json").read_text()), CONTEXT)
    names = json.loads(answer["body"])
    assert [each[0] for each in names] == ["R", "U", "S"]
    bare = app.lambda_handler({"category": "Russian", "start_letters": "RUS"}, CONTEXT)
    assert json.loads(bare["body"]) == names


def test_an_unknown_category_is_told_the_known_ones(app: ModuleType) -> None:
    """The error for an unknown category lists the categories."""
    status, body = post(app, {"category": "Klingon", "start_letters": "Q"})
    assert status == 400
    assert body["error"]["code"] == "unknown_category"
    assert "Russian" in body["error"]["details"]["categories"]


BAD_BODIES = [
    ("", "invalid_json"),
    ('{"category": "Russian", "start_letters": "RUS"', "invalid_json"),
    ('"\\ud800"', "invalid_json"),
    ("[" * 5000, "invalid_json"),
    ('{"category":' * 5000, "invalid_json"),
    ("[]", "empty_batch"),
    (" [\n]\t", "empty_batch"),
    ("[{}", "invalid_json"),
    ("[{},]", "invalid_json"),
    ("[{}] {}", "invalid_json"),
    ([{}] * 101, "too_many_items"),
    ("3", "invalid_request"),
    ('"RUS"', "invalid_request"),
    ({"category": 1, "start_letters": "R"}, "invalid_request"),
    ({"category": "Russian"}, "invalid_request"),
    ({"category": "Russian", "start_letters": "R", "tempreature": 1}, "invalid_request"),
    ({"category": "Russian", "start_letters": "R", "temperature": 0}, "invalid_request"),
    ({"category": "Russian", "start_letters": "R", "temperature": 2.1}, "invalid_request"),
    ('{"category": "Russian", "start_letters": "R", "temperature": NaN}', "invalid_request"),
    ('{"category": "Russian", "start_letters": "R", "temperature": 1e999}', "invalid_request"),
    ({"category": "Russian", "start_letters": "R", "temperature": 1, "seed": -1}, "invalid_request"),
    ({"category": "Russian", "start_letters": ""}, "empty_start_letters"),
    ({"category": "Russian", "start_letters": "R" * 65}, "too_many_start_letters"),
    ({"category": "Russian", "start_letters": "R1Я"}, "unknown_letters"),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES)
def test_a_bad_body_is_refused_with_its_reason(body: Any, code: str, app: ModuleType) -> None:
    """Each way to get a body wrong has a 400 with a code, and none reaches the model."""
    status, answer = post(app, body)
    assert (status, answer["error"]["code"]) == (400, code)


def test_a_list_is_answered_item_by_item(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid items get what they would have got alone, in one call of the model; the others their own refusals."""
    good = {"category": "Russian", "start_letters": "RUS"}
    items: list[Any] = [
        good,
        {"category": "Klingon", "start_letters": "Q"},
        [],
        good | {"temperature": 0.8, "seed": 1},
        None,
    ]
    alone = [post(app, item) for item in (items[0], items[1], items[3])]
    model = app.service.follower.peek().model
    predict = Mock(wraps=model.predict)
    monkeypatch.setattr(model, "predict", predict)
    status, answers = post(app, items)
    assert status == 200
    assert [answers[0], answers[1], answers[3]] == [body for _, body in alone]
    assert [answers[index]["error"]["code"] for index in (1, 2, 4)] == ["unknown_category"] + ["invalid_request"] * 2
    assert [len(call.args[0]) for call in predict.call_args_list] == [2]


def test_a_bare_event_may_be_a_list(app: ModuleType) -> None:
    """A direct invocation with a list is answered as `POST /predict` with it."""
    request = {"category": "Russian", "start_letters": "RUS"}
    answer = app.lambda_handler([request, request], CONTEXT)
    first, second = json.loads(answer["body"])
    assert first == second == post(app, request)[1]


def test_the_cap_on_items_is_a_setting(start_function: "StartFunction", bucket: Bucket) -> None:
    """MAX_BATCH_ITEMS says how many requests a list may have."""
    app = start_function(MODEL_BUCKET=bucket.name, MAX_BATCH_ITEMS="2")
    status, body = post(app, [{}] * 3)
    assert (status, body["error"]["details"]) == (400, {"count": 3, "limit": 2})


def test_an_item_that_the_model_fails_on_is_logged(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other items are answered, and the log has the item's number and the trace; FailureAlarm counts the list once."""
    model = app.service.follower.peek().model
    predict = model.predict

    def failing(requests: list[Any]) -> Any:
        return predict(requests) if all(each.start_letters != "B" for each in requests) else 1 / 0

    monkeypatch.setattr(model, "predict", failing)
    status, body = post(app, [{"category": "Russian", "start_letters": letter} for letter in "ABCB"])
    assert status == 200
    assert [isinstance(each, list) for each in body] == [True, False, True, False]
    assert body[1]["error"]["code"] == "internal_error"
    line, second = (json.loads(line) for line in capsys.readouterr().out.splitlines() if '"item failed"' in line)
    assert (second["index"], second.get("Errors")) == (3, None)
    assert (line["index"], line["request_id"]) == (1, CONTEXT.aws_request_id)
    assert (line["Errors"], line["code"]) == (1, "internal_error")
    assert "ZeroDivisionError" in line["exception"]


def test_an_answer_that_lambda_would_drop_is_refused(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda passes on 6 MB; a longer answer is a 400 that says so, and not a gateway's 502."""
    monkeypatch.setattr(batch, "answer", lambda *_: [batch.ItemOutcome(json.dumps("ä" * 3_200_000))])
    status, body = post(app, [{}])
    assert (status, body["error"]["code"]) == (400, "answer_too_large")


@pytest.mark.parametrize(("choice", "logged"), [("off", False), ("on", True)])
def test_the_log_has_requests_only_when_asked(
    choice: str,
    logged: bool,
    start_function: "StartFunction",
    bucket: Bucket,
    release: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was asked and answered is in the log with LOG_REQUESTS=on, and not otherwise."""
    publish(release, bucket)
    app = start_function(MODEL_BUCKET=bucket.name, LOG_REQUESTS=choice)
    post(app, {"category": "Russian", "start_letters": "RUS"})
    written = capsys.readouterr().out + str([vars(record) for record in caplog.records])
    assert ("start_letters" in written) == logged


def test_a_body_over_the_cap_is_413(start_function: "StartFunction", bucket: Bucket) -> None:
    """MAX_BODY_BYTES caps the body, plain and base64, before anything else looks at it."""
    app = start_function(MODEL_BUCKET=bucket.name, MAX_BODY_BYTES="10")
    assert post(app, "x" * 11)[0] == 413
    event = {"httpMethod": "POST", "path": "/", "body": base64.b64encode(b"x" * 11).decode(), "isBase64Encoded": True}
    assert app.lambda_handler(event, CONTEXT)["statusCode"] == 413


def test_listed_origins_are_answered_by_name(start_function: "StartFunction", bucket: Bucket) -> None:
    """With CORS_ORIGINS set, errors too name the caller's origin."""
    app = start_function(MODEL_BUCKET=bucket.name, CORS_ORIGINS="https://a.example,https://b.example")
    event = {"httpMethod": "GET", "path": "/nowhere", "headers": {"Origin": "https://b.example"}}
    answer = app.lambda_handler(event, CONTEXT)
    assert answer["statusCode"] == 404
    assert answer["headers"]["Access-Control-Allow-Origin"] == "https://b.example"


def test_sampling_repeats_with_its_seed(app: ModuleType) -> None:
    """The same seed draws the same names, another seed others."""
    request = {"category": "Italian", "start_letters": "ABCDEFGH", "temperature": 1.5, "seed": 1}
    first, again, other = post(app, request), post(app, request), post(app, request | {"seed": 2})
    assert first == again
    assert first[1] != other[1]


def test_without_a_release_the_function_starts_and_heals(
    start_function: "StartFunction", bucket: Bucket, release: Path
) -> None:
    """An empty bucket gives 503 with the command that publishes; after publishing the same environment serves."""
    app = start_function(MODEL_BUCKET=bucket.name, RELEASE_RETRY_SECONDS="0")
    status, body = post(app, {"category": "Russian", "start_letters": "R"})
    assert (status, body["error"]["code"]) == (503, "no_release")
    assert f"lambda-torch publish FOLDER --bucket {bucket.name}" in body["error"]["message"]
    publish(release, bucket)
    assert post(app, {"category": "Russian", "start_letters": "R"})[0] == 200


def test_a_missing_release_is_not_looked_for_at_every_request(
    start_function: "StartFunction", bucket: Bucket, release: Path
) -> None:
    """Within RELEASE_RETRY_SECONDS of a failed look the answer stays 503, without another call to S3."""
    app = start_function(MODEL_BUCKET=bucket.name, RELEASE_RETRY_SECONDS="3600")
    publish(release, bucket)
    assert post(app, {"category": "Russian", "start_letters": "R"})[0] == 503


def test_without_a_bucket_the_answer_says_what_to_set(start_function: "StartFunction") -> None:
    """A function without MODEL_BUCKET starts and names the variable."""
    status, body = post(start_function(MODEL_BUCKET=""), {"category": "Russian", "start_letters": "R"})
    assert (status, body["error"]["code"]) == (503, "no_bucket")
    assert "MODEL_BUCKET" in body["error"]["message"]


def test_health_tells_the_release_and_since_when(app: ModuleType) -> None:
    """`GET /health` names the release that answers and the time it was loaded."""
    answer = app.lambda_handler({"httpMethod": "GET", "path": "/health"}, CONTEXT)
    body = json.loads(answer["body"])
    assert body["status"] == "ok"
    assert body["release"] == answer["headers"]["X-Model-Version"]
    assert time.strptime(body["since"][:19], "%Y-%m-%dT%H:%M:%S") <= time.gmtime()


def get(app: ModuleType, path: str, **headers: str) -> Any:
    """The answer to `GET path`."""
    return app.lambda_handler({"httpMethod": "GET", "path": path, "headers": headers}, CONTEXT)


def test_the_document_has_what_the_release_knows(app: ModuleType) -> None:
    """`GET /openapi.json` names the release, and its categories and letters are in the request's schema."""
    answer = get(app, "/openapi.json")
    assert answer["statusCode"] == 200
    assert len(answer["headers"]["X-Model-Version"]) == 64
    fields = json.loads(answer["body"])["components"]["schemas"]["Request"]["properties"]
    assert "Russian" in fields["category"]["enum"]
    assert fields["start_letters"]["maxLength"] == 64
    assert re.search(fields["start_letters"]["pattern"], "RUS")
    assert not re.search(fields["start_letters"]["pattern"], "R1")


def test_the_document_is_there_without_a_release(start_function: "StartFunction", bucket: Bucket) -> None:
    """Before anything is published, the document says what the code knows."""
    answer = get(start_function(MODEL_BUCKET=bucket.name), "/openapi.json")
    assert answer["statusCode"] == 200
    assert "X-Model-Version" not in answer["headers"]
    assert json.loads(answer["body"])["paths"]["/predict"]


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/"])
def test_pages_are_html_that_browsers_need_not_load_twice(path: str, app: ModuleType) -> None:
    """A page is HTML with a policy; the browser that has it gets 304 and no body."""
    answer = get(app, path)
    assert answer["statusCode"] == 200
    assert answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert answer["headers"]["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer["body"].startswith("<!doctype html>")
    again = get(app, path, **{"If-None-Match": answer["headers"]["ETag"]})
    assert (again["statusCode"], again["body"]) == (304, "")


def test_a_cold_start_does_not_pay_for_pages_and_lists(aws: dict[str, str]) -> None:
    """What serves pages, the document and lists is imported when the first of them is asked for, and not at start-up."""
    program = "import sys, app; print([name for name in sys.modules if name in ('serving.http.pages', 'serving.http.openapi', "
    program += "'serving.http.batch', 'pydantic.json_schema.models_json_schema') or name.startswith('aws_lambda_powertools.event_"
    program += "handler.openapi.swagger_ui')])"
    environment = {**os.environ, **aws, "PYTHONPATH": str(ROOT / "src"), "MODEL_BUCKET": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_defect_is_500_without_a_stack_trace(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the model itself raises, the client gets a plain 500 with CORS headers, and the log the cause."""
    monkeypatch.setattr(app.service.follower.peek().model, "predict", lambda requests: 1 / 0)
    answer = app.lambda_handler({"category": "Russian", "start_letters": "R"}, CONTEXT)
    assert answer["statusCode"] == 500
    assert "division" not in answer["body"]
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"


requests = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from(["Russian", "Klingon"]) | st.text(max_size=5) | st.integers(),
        "start_letters": st.text("RUSabc", max_size=70) | st.text(max_size=5) | st.lists(st.text(max_size=1)),
        "temperature": st.none() | st.floats(-1, 3) | st.just(float("nan")) | st.text(max_size=2),
        "seed": st.none() | st.integers(-1, 2**64) | st.booleans(),
        "extra": st.none(),
    },
)
bodies = (
    requests.map(json.dumps)
    | st.lists(requests, max_size=4).map(json.dumps)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=bodies,
    method=st.sampled_from(["POST", "GET", "OPTIONS", "PUT", ""]) | st.text(max_size=4),
    path=st.sampled_from(["/predict", "/", "/health", "/predict/", "/docs", "/openapi.json"]) | st.text(max_size=10),
)
def test_any_request_is_answered_with_a_documented_status(
    body: str | bytes, method: str, path: str, app: ModuleType
) -> None:
    """Whatever is sent, the answer is 200, 204 or a documented 4xx in the documented form."""
    is_base64 = isinstance(body, bytes)
    text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    event = {"httpMethod": method, "path": path, "headers": {}, "body": text, "isBase64Encoded": is_base64}
    answer = app.lambda_handler(event, CONTEXT)
    assert answer["statusCode"] in (200, 204, 304, 400, 404, 405, 413)
    if answer["statusCode"] >= 400:
        assert set(json.loads(answer["body"])["error"]) == {"code", "message", "details"}
