"""HTTP requests become the events that API Gateway would send."""

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest, http_event, rest_event
from lambda_torch.project import EVENTS
from serving.http import events

HEADER_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True)
HEADER_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda text: "/" + text)
QUERIES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)

REQUESTS = st.builds(
    GatewayRequest,
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"]),
    path=PATHS,
    query=QUERIES,
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6),
    body=st.one_of(
        st.binary(max_size=60), st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode)
    ),
    request_id=st.uuids().map(str),
)


def sent_body(event: dict[str, Any]) -> bytes:
    """The body that an event carries."""
    body = event.get("body") or ""
    return base64.b64decode(body) if event["isBase64Encoded"] else body.encode()


@given(REQUESTS, st.sampled_from(sorted(PAYLOADS)))
def test_an_event_is_json_and_carries_the_body_byte_for_byte(request: GatewayRequest, form: str) -> None:
    """Whatever the request, its event survives JSON and gives back the body's bytes."""
    event = json.loads(json.dumps(PAYLOADS[form].event(request)))
    assert sent_body(event) == request.body


@given(REQUESTS)
@example(GatewayRequest("GET", "//0"))
def test_the_function_reads_the_same_request_from_both_formats(request: GatewayRequest) -> None:
    """The function's own reader finds the same method, path and body in both formats."""
    rest, http = events.to_http(rest_event(request)), events.to_http(http_event(request))
    assert rest.path == http.path
    assert rest.method == http.method == request.method
    if sent_body(rest_event(request)).isascii():
        assert events.body_of(rest, 1000) == events.body_of(http, 1000) == request.body.decode()


@given(REQUESTS)
def test_format_1_has_each_value_single_and_multiple(request: GatewayRequest) -> None:
    """The single value of a header or parameter is the last of its multiple ones, and none is lost."""
    event = rest_event(request)
    for single, multiple in (
        ("headers", "multiValueHeaders"),
        ("queryStringParameters", "multiValueQueryStringParameters"),
    ):
        every = event[multiple] or {}
        assert (event[single] or {}) == {name: values[-1] for name, values in every.items()}
    pairs = [
        (name, value) for name, values in (event["multiValueQueryStringParameters"] or {}).items() for value in values
    ]
    assert sorted(pairs) == sorted(parse_qsl(request.query, keep_blank_values=True))


@given(REQUESTS)
def test_format_2_has_lower_case_headers_without_cookies(request: GatewayRequest) -> None:
    """Header names are in lower case and occur once; cookies are a list of their own."""
    headers = http_event(request)["headers"]
    assert all(name == name.lower() for name in headers)
    assert "cookie" not in headers


def test_repeated_headers_whatever_their_case_are_one_entry() -> None:
    """Headers of one name, in any case, are collected under the first spelling, and joined by commas in format 2.0."""
    request = GatewayRequest("GET", "/", headers=[("X-Tag", "a"), ("x-tag", "b")])
    assert rest_event(request)["multiValueHeaders"]["X-Tag"] == ["a", "b"]
    assert rest_event(request)["headers"]["X-Tag"] == "b"
    assert http_event(request)["headers"]["x-tag"] == "a,b"


def test_repeated_parameters() -> None:
    """Parameters are decoded; repetitions are listed in format 1.0 and joined by commas in format 2.0."""
    request = GatewayRequest("GET", "/", query="p=1&p=a%20b&empty=")
    event = rest_event(request)
    assert event["multiValueQueryStringParameters"] == {"p": ["1", "a b"], "empty": [""]}
    assert event["queryStringParameters"] == {"p": "a b", "empty": ""}
    event = http_event(request)
    assert event["queryStringParameters"] == {"p": "1,a b", "empty": ""}
    assert event["rawQueryString"] == "p=1&p=a%20b&empty="


def test_what_is_missing_is_null_in_format_1_and_absent_in_format_2() -> None:
    """A request without query, body and cookies has nulls in format 1.0, and no such members in format 2.0."""
    rest, http = rest_event(GatewayRequest("GET", "/health")), http_event(GatewayRequest("GET", "/health"))
    for member in ("queryStringParameters", "multiValueQueryStringParameters", "stageVariables", "body"):
        assert rest[member] is None
    assert not {"queryStringParameters", "cookies", "body", "pathParameters", "stageVariables"} & http.keys()


def test_cookies_are_a_list_in_format_2() -> None:
    """Cookies of all Cookie headers are listed one by one."""
    request = GatewayRequest("GET", "/", headers=[("Cookie", "a=1; b=2"), ("cookie", "c=3")])
    assert http_event(request)["cookies"] == ["a=1", "b=2", "c=3"]


@pytest.mark.parametrize(
    ("content_type", "is_base64"),
    [
        ("application/json; charset=utf-8", False),
        ("text/plain", False),
        ("application/problem+json", False),
        (None, False),
        ("application/x-www-form-urlencoded", True),  # what `curl -d` says of any body
        ("application/octet-stream", True),
    ],
)
def test_format_2_encodes_what_is_not_a_text_type(content_type: str | None, is_base64: bool) -> None:
    """An HTTP API sends bodies as text only for types that are text."""
    headers = [("Content-Type", content_type)] if content_type else []
    event = http_event(GatewayRequest("POST", "/", headers=headers, body=b"{}"))
    assert event["isBase64Encoded"] is is_base64
    assert sent_body(event) == b"{}"


@pytest.mark.parametrize("form", sorted(PAYLOADS))
def test_bytes_that_are_no_text_are_base64(form: str) -> None:
    """A body that is not UTF-8 is sent as base64, whatever its type says."""
    request = GatewayRequest("POST", "/", headers=[("Content-Type", "application/json")], body=b"\xff\xfe")
    event = PAYLOADS[form].event(request)
    assert (event["isBase64Encoded"], event["body"]) == (True, "//4=")


def test_the_way_of_the_request_is_added() -> None:
    """Hop-by-hop headers are dropped; X-Forwarded-For grows by the client, and cannot be forged in the others."""
    sent = [("Connection", "close"), ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")]
    headers = rest_event(GatewayRequest("GET", "/", headers=sent, source_ip="192.0.2.1", port=8080))["headers"]
    assert headers == {
        "X-Forwarded-For": "203.0.113.7, 192.0.2.1",
        "X-Forwarded-Port": "8080",
        "X-Forwarded-Proto": "http",
    }


@pytest.mark.parametrize(("sample", "form"), [("api-v1.json", "v1"), ("api-v2.json", "v2")])
def test_events_have_the_members_of_the_sample_events(sample: str, form: str) -> None:
    """The gateway's events have at least the members of the samples, at the top and in requestContext."""
    wanted = json.loads((EVENTS / sample).read_text())
    made = PAYLOADS[form].event(GatewayRequest("POST", "/predict", headers=[("User-Agent", "x")], body=b"{}"))
    assert wanted.keys() <= made.keys()
    assert wanted["requestContext"].keys() <= made["requestContext"].keys()
    for nested in ("identity", "http"):
        assert wanted["requestContext"].get(nested, {}).keys() <= made["requestContext"].get(nested, {}).keys()


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_events_agree_with_those_of_sam_local(form: str) -> None:
    """For one request, SAM's own local gateway and this one make the same event, but for the route, times and identifiers."""
    from flask import Flask, request
    from samcli.local.apigw import event_constructor

    app = Flask(__name__)
    seen: dict[str, Any] = {}

    @app.route("/predict", methods=["POST"], endpoint="/predict")
    def predict() -> str:
        make = event_constructor.construct_v1_event if form == "v1" else event_constructor.construct_v2_event_http
        seen.update(make(request, 3000, []))
        return ""

    headers = {"Content-Type": "application/json", "X-Tag": "a", "Cookie": "k=v"}
    client = app.test_client(use_cookies=False)
    client.post("/predict?p=1&p=2", data=b'{"a": 1}', headers=headers)
    ours = PAYLOADS[form].event(
        GatewayRequest("POST", "/predict", "p=1&p=2", [*headers.items(), ("Host", "localhost")], b'{"a": 1}', port=3000)
    )
    same = {
        "v1": ("path", "httpMethod", "queryStringParameters", "multiValueQueryStringParameters", "body"),
        "v2": ("version", "rawPath", "rawQueryString", "queryStringParameters", "cookies", "body"),
    }[form]
    for member in (*same, "isBase64Encoded"):
        assert ours[member] == seen[member], member
    theirs = {name.lower(): value for name, value in seen["headers"].items()}
    mine = {name.lower(): value for name, value in ours["headers"].items()}
    for name in ("content-type", "x-tag", "host", "x-forwarded-port", "x-forwarded-proto"):
        assert mine[name] == theirs[name]
