"""The function's answers become HTTP as API Gateway does it, or are refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.emulator.payload_answers import GatewayResponse, MalformedAnswerError, http_answer, rest_answer
from lambda_torch.emulator.payloads import PAYLOADS

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
ALMOST_ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "statusCode": st.one_of(st.integers(100, 700), JSON),
        "headers": st.one_of(st.dictionaries(st.text(max_size=6), JSON, max_size=3), JSON),
        "multiValueHeaders": st.one_of(st.dictionaries(st.text(max_size=6), st.lists(JSON, max_size=3)), JSON),
        "cookies": st.one_of(st.lists(st.text(max_size=6), max_size=3), JSON),
        "body": st.one_of(st.text(max_size=12), JSON),
        "isBase64Encoded": st.one_of(st.booleans(), JSON),
    },
)


def payload(**members: Any) -> bytes:
    """A function's answer."""
    return json.dumps(members).encode()


@given(st.one_of(JSON, ALMOST_ANSWERS), st.sampled_from(sorted(PAYLOADS)))
def test_any_json_is_an_answer_or_refused_with_a_reason(value: Any, form: str) -> None:
    """Whatever JSON the function gives, the result is an HTTP answer that can be sent, or a stated reason."""
    try:
        answer = PAYLOADS[form].answer(json.dumps(value).encode())
    except MalformedAnswerError as error:
        assert str(error)
        return
    assert 200 <= answer.status <= 599
    for name, text in answer.headers:
        assert name.isascii()
        assert not set(text.encode("latin-1")) & {0, 10, 13}


@pytest.mark.parametrize("form", sorted(PAYLOADS))
def test_a_plain_answer(form: str) -> None:
    """Status, headers and body arrive; numbers and booleans become header text."""
    answer = PAYLOADS[form].answer(
        payload(statusCode=201, headers={"Content-Type": "text/plain", "X-N": 3, "X-B": True}, body="å")
    )
    assert answer == GatewayResponse(201, [("Content-Type", "text/plain"), ("X-N", "3"), ("X-B", "true")], "å".encode())


@pytest.mark.parametrize("form", sorted(PAYLOADS))
def test_base64_bodies_are_decoded(form: str) -> None:
    """A body marked as base64 is sent as the bytes that it stands for."""
    assert PAYLOADS[form].answer(payload(statusCode=200, body="//4=", isBase64Encoded=True)).body == b"\xff\xfe"


@pytest.mark.parametrize("form", sorted(PAYLOADS))
def test_the_server_owns_the_framing_headers(form: str) -> None:
    """Content-Length, Transfer-Encoding and Connection of the function are dropped."""
    headers = {"content-length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "X": "y"}
    names = [name for name, _ in PAYLOADS[form].answer(payload(statusCode=200, headers=headers)).headers]
    assert names == ["X", "Content-Type"]


def test_headers_are_merged_in_format_1() -> None:
    """Multiple and single headers are sent all, and a pair that is in both only once."""
    answer = rest_answer(
        payload(statusCode=200, headers={"A": "1", "B": "2"}, multiValueHeaders={"A": ["1", "3"]}, body="")
    )
    assert answer.headers == [("A", "1"), ("A", "3"), ("B", "2"), ("Content-Type", "application/json")]


def test_cookies_of_format_2() -> None:
    """Each cookie is a Set-Cookie header of its own."""
    answer = http_answer(payload(statusCode=204, cookies=["a=1", "b=2"]))
    assert [pair for pair in answer.headers if pair[0] == "Set-Cookie"] == [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]


@pytest.mark.parametrize(("value", "body"), [({"a": 1}, b'{"a": 1}'), ("text", b"text"), ([1], b"[1]"), (7, b"7")])
def test_format_2_takes_json_without_a_status_for_the_body(value: Any, body: bytes) -> None:
    """Without a statusCode the answer itself is the body of a 200 with JSON's type."""
    assert http_answer(json.dumps(value).encode()) == GatewayResponse(200, [("Content-Type", "application/json")], body)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"not json", "not JSON"),
        (b'["a"]', "not a JSON object"),
        (payload(statusCode=200, extra=1), "members that API Gateway does not know: extra"),
        (payload(statusCode="ok"), "statusCode"),
        (payload(statusCode=True), "statusCode"),
        (payload(statusCode=99), "statusCode"),
        (payload(statusCode=200, body={"a": 1}), "body is not a string"),
        (payload(statusCode=200, body="?", isBase64Encoded=True), "body cannot be sent"),
        (payload(statusCode=200, body="\ud800"), "body cannot be sent"),
        (payload(statusCode=200, headers=["a"]), "headers are not an object"),
        (payload(statusCode=200, headers={"A": {"b": 1}}), "header A"),
        (payload(statusCode=200, headers={"A": "b\r\nSet-Cookie: c"}), "header A"),
        (payload(statusCode=200, headers={"A": "€"}), "header A"),
        (payload(statusCode=200, headers={"A B": "c"}), "cannot be a header's name"),
        (payload(statusCode=200, multiValueHeaders={"A": "b"}), "multiValueHeaders.A is not a list"),
    ],
)
def test_malformed_answers_of_format_1(answer: bytes, reason: str) -> None:
    """Each kind of malformed answer is refused with what is wrong with it."""
    with pytest.raises(MalformedAnswerError, match=reason):
        rest_answer(answer)
