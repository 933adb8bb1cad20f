"""Whatever JSON an invocation brings, the function answers it, and none of it counts as a defect."""

import base64
import copy
import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.work.conftest import CONTEXT, GOOD, UNKNOWN, document
from lambda_torch.project import EVENTS
from lambda_torch.releases.bucket import Bucket
from serving.jobs.bulk import BatchError

TEXTS = st.text(max_size=12) | st.text('[]{},:"\\ \t\n\u00a0\u2028\ufeff0eE.-ntru\ud800', max_size=20)
NUMBERS = st.integers() | st.floats() | st.just(10**400)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(["category", "start_letters", "temperature", "seed", "extra"])
REQUESTS = st.dictionaries(FIELDS, VALUES, max_size=5).map(lambda value: GOOD | value) | st.sampled_from(
    [GOOD, UNKNOWN]
)
BODIES = (REQUESTS | st.lists(REQUESTS, max_size=4) | VALUES).map(json.dumps) | TEXTS

GATEWAY = [json.loads((EVENTS / name).read_text()) for name in ("api-v1.json", "api-v2.json", "preflight-v1.json")]


@st.composite
def gateway_events(draw: st.DrawFn) -> dict[str, Any]:
    """An event of API Gateway, some of whose parts are others than they should be."""
    event: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(GATEWAY)))
    body = draw(BODIES)
    is_base64 = draw(st.booleans())
    event["body"] = base64.b64encode(body.encode(errors="replace")).decode() if is_base64 else body
    event["isBase64Encoded"] = is_base64
    for name in draw(st.sets(st.sampled_from([*event, "resource", "pathParameters", "routeKey"]), max_size=3)):
        event[name] = draw(VALUES)
    return event


def messages(part: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Messages of SQS, with ids and attributes of whatever kind."""
    record = st.fixed_dictionaries(
        {
            "eventSource": st.just("aws:sqs"),
            "messageId": st.uuids().map(str) | part,
            "body": BODIES | part,
        },
        optional={
            "messageAttributes": part
            | st.fixed_dictionaries({"id": part | st.fixed_dictionaries({"stringValue": part})})
        },
    )
    return st.fixed_dictionaries({"Records": st.lists(record, min_size=1, max_size=3)})


BATCHES = st.fixed_dictionaries(
    {"lambda-torch": st.just("bulk")},
    optional={
        "items": VALUES
        | st.lists(
            st.fixed_dictionaries({"index": st.integers(-1, 10**13) | VALUES, "value": REQUESTS | VALUES}), max_size=3
        ),
        "prefix": TEXTS.map(lambda text: f"results/{text}") | VALUES,
    },
)
ANYTHING = VALUES | REQUESTS | gateway_events() | messages(VALUES) | messages(TEXTS) | BATCHES


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(event=ANYTHING)
def test_no_event_is_a_defect(event: Any, served: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """HTTP gets a status that is no 5xx, no message has to come again, and what is no batch is refused as such."""
    capsys.readouterr()
    try:
        answer = served.lambda_handler(event, CONTEXT)
    except BatchError as error:
        assert event["lambda-torch"] == "bulk"
        assert str(error).startswith(("Not a batch of items", "storage_unavailable"))
        return
    json.dumps(answer).encode()
    if "statusCode" in answer:
        assert answer["statusCode"] in (200, 204, 304, 400, 404, 405, 413), (answer, capsys.readouterr().out)
        if answer["statusCode"] >= 400:
            assert set(json.loads(answer["body"])["error"]) == {"code", "message", "details"}
    elif "batchItemFailures" in answer:
        assert answer == {"batchItemFailures": []}
    else:
        assert answer["failed"] == 0
    assert "internal_error" not in capsys.readouterr().out


def nested(depth: int) -> list[Any]:
    """An empty list in a list in a list, and so on."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def refused(status: int, body: Any) -> bool:
    """Whether an answer is a 400, or a list whose one item is refused."""
    if status == 200:
        (body,) = body
    return status in (200, 400) and body["error"]["code"] in ("invalid_json", "invalid_request")


@pytest.mark.parametrize("depth", [200, 2_000, 100_000])
def test_deep_nesting_is_refused_wherever_it_comes_in(served: ModuleType, bucket: Bucket, depth: int) -> None:
    """A bare event, a field of one, a body, a message and a value of a batch are each refused, however deep they are."""
    for event in (nested(depth), {"category": nested(depth)}):
        answer = served.lambda_handler(event, CONTEXT)
        assert refused(answer["statusCode"], json.loads(answer["body"]))
    for text in ("[" * depth + "]" * depth, '{"category":' + "[" * depth + "]" * depth + "}"):
        answer = served.lambda_handler({"httpMethod": "POST", "path": "/predict", "body": text}, CONTEXT)
        assert refused(answer["statusCode"], json.loads(answer["body"]))
        record = {"eventSource": "aws:sqs", "messageId": f"deep-{depth}-{len(text)}", "body": text}
        assert served.lambda_handler({"Records": [record]}, CONTEXT) == {"batchItemFailures": []}
        result = document(bucket, f"results/{record['messageId']}.json")
        assert refused(result["status"], result["body"])
    items = [{"index": 0, "value": {"category": nested(depth)}}, {"index": 1, "value": GOOD}]
    answer = served.lambda_handler({"lambda-torch": "bulk", "items": items}, CONTEXT)
    assert {name: answer[name] for name in ("answered", "refused", "failed")} == {
        "answered": 1,
        "refused": 1,
        "failed": 0,
    }


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\x0b", "\x0c", "\x1f", "\ufeff"])
def test_only_the_white_space_of_json_is_white_space(served: ModuleType, bucket: Bucket, space: str) -> None:
    """Python strips more characters than JSON allows: before a list they make the text no JSON, for clients and messages."""
    body = f"{space}[{json.dumps(GOOD)}]"
    answer = served.lambda_handler({"httpMethod": "POST", "path": "/predict", "body": body}, CONTEXT)
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (400, "invalid_json")
    record = {"eventSource": "aws:sqs", "messageId": f"space-{ord(space)}", "body": body}
    assert served.lambda_handler({"Records": [record]}, CONTEXT) == {"batchItemFailures": []}
    result = document(bucket, f"results/space-{ord(space)}.json")
    assert (result["status"], result["body"]["error"]["code"]) == (400, "invalid_json")


def test_records_that_are_no_messages_are_a_bare_event(served: ModuleType) -> None:
    """An event that only looks like SQS's is refused as a request, and does not raise."""
    for record in ({}, {"eventSource": "aws:sqs"}, {"eventSource": "aws:sqs", "messageId": 1, "body": "{}"}, 7):
        answer = served.lambda_handler({"Records": [record]}, CONTEXT)
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (400, "invalid_request")
