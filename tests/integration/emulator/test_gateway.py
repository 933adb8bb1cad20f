"""The gateway over real HTTP, with a real function behind it."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from integration.emulator.conftest import MakePool
from lambda_torch.emulator.gateway import BODY_LIMIT, Gateway, Handled
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.run import listen, serving

Serve = Callable[..., str]


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    """A pool that has started."""
    started = make_pool()
    started.start()
    return started


@pytest.fixture
def handled() -> list[Handled]:
    """What the gateway reported."""
    return []


@pytest.fixture
def serve(pool: Pool, handled: list[Handled]) -> Iterator[Serve]:
    """Serves the pool in a payload format, and gives the URL."""
    with ExitStack() as stack:

        def start(form: str = "v1", **options: Any) -> str:
            gateway = Gateway(pool, PAYLOADS[form], handled.append, **options)
            return stack.enter_context(serving(gateway, stack.enter_context(listen("127.0.0.1", 0))))

        yield start


def order(url: str, **what: Any) -> requests.Response:
    """Tell the probe what to do."""
    return requests.post(f"{url}/do", json=what, timeout=60)


def test_a_request_becomes_a_rest_event(serve: Serve) -> None:
    """Method, path, query, repeated headers and the body arrive as a REST API sends them."""
    url = serve("v1")
    prepared = requests.Request(
        "PUT", f"{url}/a%20b/c?p=1&p=2", data="grüße".encode(), headers={"X-Tag": "1"}
    ).prepare()
    with requests.Session() as session:
        answer = session.send(prepared, timeout=60)
    seen = answer.json()
    assert (seen["httpMethod"], seen["path"], seen["body"]) == ("PUT", "/a b/c", "grüße")
    assert seen["multiValueQueryStringParameters"] == {"p": ["1", "2"]}
    assert seen["pathParameters"] == {"proxy": "a b/c"}
    assert seen["headers"]["X-Tag"] == "1"
    assert seen["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
    assert seen["requestContext"]["requestId"] == answer.headers["x-amzn-RequestId"]


def test_repeated_headers_arrive_one_by_one(serve: Serve) -> None:
    """A header that a client sends twice is two values, in the client's spelling."""
    import http.client

    host = serve("v1").removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.putrequest("GET", "/")
    connection.putheader("x-TAG", "a")
    connection.putheader("x-TAG", "b")
    connection.endheaders()
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert seen["multiValueHeaders"]["x-TAG"] == ["a", "b"]


def test_a_request_becomes_an_http_api_event(serve: Serve) -> None:
    """With format 2.0 the same request has its members there."""
    answer = requests.get(f"{serve('v2')}/x?p=1&p=2", cookies={"k": "v"}, timeout=60)
    seen = answer.json()
    assert (seen["version"], seen["rawPath"], seen["rawQueryString"]) == ("2.0", "/x", "p=1&p=2")
    assert seen["cookies"] == ["k=v"]
    assert seen["requestContext"]["http"]["method"] == "GET"


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_binary_bodies_come_and_go(serve: Serve, form: str) -> None:
    """Bytes that are no text reach the function as base64, and its base64 answer is sent as bytes."""
    url = serve(form)
    seen = requests.post(f"{url}/x", data=b"\xff\x00", timeout=60).json()
    assert (seen["body"], seen["isBase64Encoded"]) == ("/wA=", True)
    answer = order(url, do="answer", answer={"statusCode": 200, "body": "/wA=", "isBase64Encoded": True})
    assert answer.content == b"\xff\x00"


def test_repeated_answer_headers_are_sent_one_by_one(serve: Serve) -> None:
    """Multi-value headers of format 1.0 and cookies of format 2.0 are one header line each."""
    multi = {"statusCode": 200, "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]}}
    assert order(serve("v1"), do="answer", answer=multi).cookies.get_dict() == {"a": "1", "b": "2"}
    cookies = {"statusCode": 200, "cookies": ["a=1", "b=2"]}
    assert order(serve("v2"), do="answer", answer=cookies).cookies.get_dict() == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("form", "status", "message"), [("v1", 502, "Internal server error"), ("v2", 500, "Internal Server Error")]
)
@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ({"do": "answer", "answer": {"statusCode": "no number"}}, "malformed"),
        ({"do": "raise"}, "as ordered"),
        ({"do": "exit"}, "Runtime.ExitError"),
    ],
)
def test_failures_of_the_function_are_the_gateways_own_answer(
    serve: Serve, handled: list[Handled], form: str, status: int, message: str, what: dict[str, Any], problem: str
) -> None:
    """The client learns nothing about a failure; the one who runs the gateway learns its reason; the next request is served."""
    url = serve(form)
    answer = order(url, **what)
    assert (answer.status_code, answer.json()) == (status, {"message": message})
    assert problem in (handled[-1].problem or "")
    assert requests.get(url, timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "message"), [("v1", 504, "Endpoint request timed out"), ("v2", 503, "Service Unavailable")]
)
def test_a_late_answer_is_given_up(serve: Serve, form: str, status: int, message: str) -> None:
    """A request that takes longer than the gateway waits gets its timeout."""
    answer = order(serve(form, timeout_seconds=1.0), do="sleep", seconds=3)
    assert (answer.status_code, answer.json()) == (status, {"message": message})


def test_too_large_requests_are_refused(serve: Serve, handled: list[Handled]) -> None:
    """Over API Gateway's limit for bodies, or Lambda's for events, a request is a 413 that never reaches the function."""
    url = serve("v1")
    for size in (BODY_LIMIT + 1, 7 * 1024 * 1024):
        answer = requests.post(f"{url}/x", data=b"x" * size, timeout=60)
        assert (answer.status_code, answer.json()) == (413, {"message": "Request Too Long"})
    problems = ["the body is larger than 10485760 bytes", "Request must be smaller than 6291456 bytes"]
    assert [each.problem and each.problem.startswith(problem) for each, problem in zip(handled, problems, strict=True)]


def test_many_requests_at_the_same_time(serve: Serve, pool: Pool) -> None:
    """Twenty requests at a time are each answered with their own event, by two environments."""
    url = serve("v1")
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: requests.get(f"{url}/?n={n}", timeout=60).json(), range(40)))
    assert [answer["queryStringParameters"]["n"] for answer in answers] == [str(n) for n in range(40)]
    assert pool.size == 2


def test_a_head_request_has_no_body(serve: Serve) -> None:
    """HEAD reaches the function, and its answer goes out without a body."""
    answer = requests.head(f"{serve('v1')}/x", timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"-1\r\nabc\r\n0\r\n\r\n"),
        ("Content-Length: 100", b"abc"),
        ("Content-Length: -1", b"abc"),
    ],
    ids=["no chunk size", "negative chunk size", "short body", "negative length"],
)
def test_a_broken_body_ends_with_a_refusal(serve: Serve, head: str, body: bytes) -> None:
    """A body that is not what its headers say never reaches the function: 400, or the end of the connection, and no wait."""
    address = urlsplit(serve("v1"))
    with socket.create_connection((address.hostname, address.port), timeout=20) as client:
        client.sendall(f"POST /do HTTP/1.1\r\nHost: here\r\n{head}\r\n\r\n".encode() + body)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer == b"" or re.match(rb"HTTP/1\.[01] 400 ", answer)
    assert b"<html" not in answer.lower()
