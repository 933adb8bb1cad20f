import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import HttpError
from serving.http.events import HttpRequest, body_of, to_http

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def v2(path: str, stage: str = "$default") -> dict[str, Any]:
    """A payload 2.0 event for a path of a stage."""
    return {"version": "2.0", "rawPath": path, "requestContext": {"stage": stage, "http": {"method": "post"}}}


def test_payload_1_and_2_and_the_bare_event_become_one_form() -> None:
    """The same request has the same path, method and body whichever kind of event carries it."""
    request = {"category": "Russian", "start_letters": "RUS"}
    text = json.dumps(request)
    kinds: list[Any] = [
        {"httpMethod": "POST", "path": "/predict", "headers": None, "body": text},
        v2("/predict") | {"body": text},
        request,
    ]
    forms = [to_http(kind) for kind in kinds]
    assert {form.path for form in forms} == {"/predict"}
    assert {form.method for form in forms} == {"POST"}
    assert {form.body for form in forms} == {text}


@pytest.mark.parametrize(
    ("stage", "path", "route"),
    [("prod", "/prod/predict", "/predict"), ("prod", "/prod", "/"), ("prod", "/production", "/production")],
)
def test_a_named_stage_is_no_part_of_the_route(stage: str, path: str, route: str) -> None:
    """An HTTP API's named stage is taken off the front of the path, and nothing else is."""
    assert to_http(v2(path, stage)).path == route


def v1(path: str, resource: str, **variables: str) -> dict[str, Any]:
    """A payload 1.0 event for a path, which a resource of the API took."""
    return {"httpMethod": "POST", "path": path, "resource": resource, "pathParameters": variables or None}


@pytest.mark.parametrize("base", ["", "/models", "/a/b", "/predict"])
@pytest.mark.parametrize("path", ["/predict", "/", "/openapi.json"])
def test_a_custom_domains_base_path_is_no_part_of_the_route(base: str, path: str) -> None:
    """Both payloads name the API's resource, alone or as a greedy variable; what the path has before it is the base path."""
    whole = f"{base}{path}" if path != "/" else base or "/"
    events = [
        v1(whole, path),
        v1(whole, "/{proxy+}", proxy=path[1:]),
        v2(whole) | {"routeKey": f"POST {path}"},
        v2(whole) | {"routeKey": "ANY /{proxy+}", "pathParameters": {"proxy": path[1:]}},
        v2(f"/prod{whole}", "prod") | {"routeKey": f"POST {path}"},
    ]
    assert [to_http(event).path for event in events] == [path] * len(events)


@pytest.mark.parametrize(
    "event",
    [
        v1("/models/predict", "/{proxy+}", proxy="health"),
        v1("/models/predict", "/{proxy+}"),
        v1("/models/predict", "predict"),
        v2("/models/predict") | {"routeKey": "$default"},
        v2("/models/predict") | {"routeKey": 7, "pathParameters": [1]},
    ],
)
def test_a_path_that_its_resource_does_not_end_is_left_as_it_is(event: dict[str, Any]) -> None:
    """An event that does not say what its base path is has none."""
    assert to_http(event).path in ("/models/predict", "/")


def test_a_trailing_slash_does_not_make_another_route() -> None:
    """`/predict/` is `/predict`, and `/` stays."""
    assert to_http(v2("/predict/")).path == "/predict"
    assert to_http(v2("/")).path == "/"


def test_headers_are_found_however_they_are_spelt() -> None:
    """REST APIs keep the client's capitals, HTTP APIs lower them; null is no header, as are headers that are null."""
    headers = {"Origin": None, "origin": "https://a.example", "X-Canary-Key": 7}
    http = to_http(v2("/") | {"headers": headers})
    assert [http.header(name) for name in ("origin", "x-canary-key", "accept")] == ["https://a.example", "7", None]
    assert to_http(v2("/") | {"headers": None}).header("origin") is None


@given(json_values)
def test_any_json_is_an_event(event: Any) -> None:
    """Whatever JSON a direct invocation sends becomes a request or is refused with 400."""
    try:
        http = to_http(event)
    except HttpError as error:
        assert error.status == 400
    else:
        assert isinstance(http.path, str)
        assert isinstance(http.body, str)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("path", "headers", "body", "isBase64Encoded", "requestContext"), json_values)
    )
)
def test_a_malformed_gateway_event_is_refused_not_raised(parts: dict[str, Any]) -> None:
    """An event with the marks of API Gateway and parts of the wrong types ends in 400, never in another exception."""
    try:
        http = to_http({"httpMethod": "POST", **parts})
    except HttpError as error:
        assert (error.status, error.code) == (400, "invalid_event")
    else:
        assert isinstance(http.path, str)


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(1, 80))
def test_the_body_cap_counts_bytes_however_the_body_is_sent(text: str, cap: int) -> None:
    """A body passes exactly when its UTF-8 form is within the cap, plain or in base64."""
    content = text.encode()
    for body, is_base64 in ((text, False), (base64.b64encode(content).decode(), True)):
        http = HttpRequest("POST", "/", body=body, is_base64=is_base64)
        if len(content) <= cap:
            assert body_of(http, cap) == text
        else:
            with pytest.raises(HttpError) as caught:
                body_of(http, cap)
            assert caught.value.status == 413


@pytest.mark.parametrize(("body", "code"), [("%%%", "invalid_base64"), ("/w==", "invalid_encoding")])
def test_broken_base64_and_broken_utf8_are_told_apart(body: str, code: str) -> None:
    """A base64 body that is none, or that holds no UTF-8 text, is refused with a code of its own."""
    with pytest.raises(HttpError) as caught:
        body_of(HttpRequest("POST", "/", body=body, is_base64=True), 1000)
    assert (caught.value.status, caught.value.code) == (400, code)
