"""HTTP requests to API Gateway's events, and the function's answers to HTTP: pure functions, one pair for each payload format.

Sources: "Lambda proxy integrations in API Gateway" (REST API, format 1.0), "Create AWS Lambda proxy integrations for HTTP APIs"
(format 2.0), both in the API Gateway developer guide, and its quotas. Two liberties: all routes lead to the function, as with
`/{proxy+}`, and a REST API behaves as one whose binary media types are `*/*`.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

ACCOUNT = "123456789012"
API = "local"

Headers = Sequence[tuple[str, str]]

# RFC 9110, 7.6.1: they concern one connection, not the request. `Expect` is answered by the server itself.
_HOP_BY_HOP = frozenset(
    ("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
# What the server computes for its own answer.
_NOT_FROM_THE_FUNCTION = _HOP_BY_HOP | {"content-length"}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TEXT_TYPES = re.compile(r"text/.*|application/(json|javascript|xml|.*\+json|.*\+xml)")


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request as it arrived.

    Attributes:
        path: decoded, begins with `/`.
        query: the raw query string, without `?`.
        headers: in their order, with repetitions.
        request_id: what the answer carries too, for people who compare with the log.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: bytes = b""
    source_ip: str = "127.0.0.1"
    protocol: str = "HTTP/1.1"
    port: int = 3000
    request_id: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def header(self, name: str) -> str | None:
        """The last header of this name, whatever its case."""
        values = [value for key, value in self.headers if key.lower() == name]
        return values[-1] if values else None


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP answer, without what the server adds itself (Content-Length, Date, ...)."""

    status: int
    headers: Headers
    body: bytes


class MalformedAnswerError(ValueError):
    """The function's answer is not one that API Gateway understands. The message says what is wrong with it."""


@dataclass(frozen=True)
class Payload:
    """One payload format of API Gateway.

    Attributes:
        event: the event for a request.
        answer: the HTTP answer for the function's payload; raises MalformedAnswerError.
        failed, timed_out, too_large: status and message of the gateway's own answers: the function failed or its answer is
            malformed; it took longer than the gateway waits; the request is larger than the gateway or Lambda takes.
        request_id_header: the answer's header that carries the request id.
    """

    event: Callable[[HttpRequest], dict[str, Any]]
    answer: Callable[[bytes], HttpResponse]
    failed: tuple[HTTPStatus, str]
    timed_out: tuple[HTTPStatus, str]
    too_large: tuple[HTTPStatus, str]
    request_id_header: str

    @staticmethod
    def refusal(refused: tuple[HTTPStatus, str]) -> HttpResponse:
        """The gateway's own answer."""
        status, message = refused
        return HttpResponse(status, [("Content-Type", "application/json")], json.dumps({"message": message}).encode())


def _forwarded(request: HttpRequest) -> list[tuple[str, str]]:
    """The request's headers as the gateway hands them on: hop-by-hop ones dropped, the way they came added."""
    kept = [(name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
    before = [value for name, value in kept if name.lower() == "x-forwarded-for"]
    kept = [(name, value) for name, value in kept if not name.lower().startswith("x-forwarded-")]
    return [
        *kept,
        ("X-Forwarded-For", ", ".join([*before, request.source_ip])),
        ("X-Forwarded-Port", str(request.port)),
        ("X-Forwarded-Proto", "http"),
    ]


def _query(request: HttpRequest) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True, errors="replace"):
        values.setdefault(name, []).append(value)
    return values


def _as_text(body: bytes) -> tuple[str, bool]:
    """A body as an event carries it, and whether that is base64."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def _clock(request: HttpRequest) -> tuple[str, int]:
    return request.time.strftime("%d/%b/%Y:%H:%M:%S +0000"), int(request.time.timestamp() * 1000)


def rest_event(request: HttpRequest) -> dict[str, Any]:
    """Format 1.0 as a REST API sends it: what is missing is null, and every value comes both single (the last) and multiple."""
    headers: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, value in _forwarded(request):
        headers.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    query = _query(request)
    body, is_base64 = _as_text(request.body)
    time, epoch = _clock(request)
    proxy = request.path.strip("/")
    resource = "/{proxy+}" if proxy else "/"
    identity = dict.fromkeys(
        (
            *("accessKey", "accountId", "caller", "cognitoAuthenticationProvider", "cognitoAuthenticationType"),
            *("cognitoIdentityId", "cognitoIdentityPoolId", "principalOrgId", "user", "userArn"),
        )
    )
    return {
        "resource": resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": proxy} if proxy else None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "domainName": request.header("host") or f"127.0.0.1:{request.port}",
            "domainPrefix": API,
            "extendedRequestId": request.request_id,
            "httpMethod": request.method,
            "identity": {**identity, "sourceIp": request.source_ip, "userAgent": request.header("user-agent")},
            "path": f"/local{request.path}",
            "protocol": request.protocol,
            "requestId": request.request_id,
            "requestTime": time,
            "requestTimeEpoch": epoch,
            "resourceId": API,
            "resourcePath": resource,
            "stage": "local",
        },
        "body": body or None,
        "isBase64Encoded": is_base64,
    }


def http_event(request: HttpRequest) -> dict[str, Any]:
    """Format 2.0, also that of function URLs: header names in lower case, repetitions joined, what is missing left out."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in _forwarded(request):
        key = name.lower()
        if key == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            headers[key] = f"{headers[key]},{value}" if key in headers else value
    query = {name: ",".join(values) for name, values in _query(request).items()}
    kind = (request.header("content-type") or "text/plain").partition(";")[0].strip().lower()
    body, is_base64 = _as_text(request.body)
    if request.body and not is_base64 and not _TEXT_TYPES.fullmatch(kind):
        body, is_base64 = base64.b64encode(request.body).decode(), True
    time, epoch = _clock(request)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
        **({"cookies": cookies} if cookies else {}),
        "headers": headers,
        **({"queryStringParameters": query} if query else {}),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "domainName": request.header("host") or f"127.0.0.1:{request.port}",
            "domainPrefix": API,
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": request.header("user-agent") or "",
            },
            "requestId": request.request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": time,
            "timeEpoch": epoch,
        },
        **({"body": body} if request.body else {}),
        "isBase64Encoded": is_base64,
    }


def rest_answer(payload: bytes) -> HttpResponse:
    """The answer of format 1.0: an object with these members and no others. A REST API takes a missing statusCode for 200."""
    answer = _json(payload)
    if not isinstance(answer, dict):
        raise MalformedAnswerError("it is not a JSON object")
    unknown = answer.keys() - {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}
    if unknown:
        raise MalformedAnswerError(f"it has members that API Gateway does not know: {', '.join(sorted(unknown))}")
    headers = _single_headers(answer)
    multiple = [
        (name, _header_value(name, value))
        for name, values in _mapping(answer, "multiValueHeaders").items()
        for value in _list(values, f"multiValueHeaders.{name}")
    ]
    # A pair that is in both counts once.
    headers = [*multiple, *(pair for pair in headers if pair not in multiple)]
    return _answer(answer, headers, "application/json")


def http_answer(payload: bytes) -> HttpResponse:
    """The answer of format 2.0; JSON without a statusCode is itself the body of a 200."""
    answer = _json(payload)
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer.encode() if isinstance(answer, str) else payload
        return HttpResponse(HTTPStatus.OK, [("Content-Type", "application/json")], body)
    headers = _single_headers(answer)
    headers += [("Set-Cookie", _header_value("cookies", cookie)) for cookie in _list(answer.get("cookies"), "cookies")]
    return _answer(answer, headers, "text/plain;charset=utf-8")


def _answer(answer: Mapping[str, Any], headers: list[tuple[str, str]], default_type: str) -> HttpResponse:
    headers = [(name, value) for name, value in headers if name.lower() not in _NOT_FROM_THE_FUNCTION]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", default_type))
    return HttpResponse(_status(answer.get("statusCode", 200)), headers, _answer_body(answer))


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise MalformedAnswerError("it is not JSON") from error


def _status(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if type(value) is not int or not 200 <= value <= 599:
        raise MalformedAnswerError(f"its statusCode is {json.dumps(value)[:40]}, not a number from 200 to 599")
    return value


def _mapping(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedAnswerError(f"its {name} are not an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedAnswerError(f"its {name} is not a list")
    return value


def _single_headers(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _header_value(name, value)) for name, value in _mapping(answer, "headers").items()]


def _header_value(name: str, value: Any) -> str:
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    if not _TOKEN.fullmatch(name):
        raise MalformedAnswerError(f"{name[:40]!r} cannot be a header's name")
    if not isinstance(value, str) or _CONTROL.search(value) or not _is_latin1(value):
        raise MalformedAnswerError(f"its header {name} has a value that a header cannot carry")
    return value


def _is_latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _answer_body(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedAnswerError("its body is not a string (API Gateway takes no object there: use json.dumps)")
    try:
        if answer.get("isBase64Encoded"):
            return base64.b64decode(body, validate=True)
        return body.encode()
    except (binascii.Error, ValueError) as error:
        raise MalformedAnswerError(f"its body cannot be sent: {error}") from error


# What the gateways themselves say. REST API: its default gateway responses INTEGRATION_FAILURE, INTEGRATION_TIMEOUT and
# REQUEST_TOO_LARGE; an HTTP API's wording is its own.
PAYLOADS = {
    "v1": Payload(
        rest_event,
        rest_answer,
        failed=(HTTPStatus.BAD_GATEWAY, "Internal server error"),
        timed_out=(HTTPStatus.GATEWAY_TIMEOUT, "Endpoint request timed out"),
        too_large=(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request Too Long"),
        request_id_header="x-amzn-RequestId",
    ),
    "v2": Payload(
        http_event,
        http_answer,
        failed=(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error"),
        timed_out=(HTTPStatus.SERVICE_UNAVAILABLE, "Service Unavailable"),
        too_large=(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request Entity Too Large"),
        request_id_header="Apigw-Requestid",
    ),
}
