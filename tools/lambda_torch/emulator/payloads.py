"""HTTP requests, made into events as API Gateway does: one pure function for each payload format.

Sources: "Lambda proxy integrations in API Gateway" (REST API, format 1.0), "Create AWS Lambda proxy integrations for
HTTP APIs" (format 2.0), both in the API Gateway developer guide, and its quotas. Two differences: all routes lead to
the function, as with `/{proxy+}`, and a REST API behaves as if its binary media types were `*/*`.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from lambda_torch.emulator.payload_answers import HOP_BY_HOP, GatewayResponse, Headers, http_answer, rest_answer

ACCOUNT = "123456789012"
API = "local"
# Tells the function that this gateway takes answers in pieces as streams, and others in the proxy form.
STREAMING_STAGE = {"responseStreaming": "pieces"}

_TEXT_TYPES = re.compile(r"text/.*|application/(json|javascript|xml|.*\+json|.*\+xml)")


@dataclass(frozen=True)
class GatewayRequest:
    """An HTTP request as it arrived.

    Attributes:
        path: decoded; begins with `/`.
        query: the raw query string, without `?`.
        headers: in their order, with repetitions.
        stage_variables: of the API's stage; the function reads there whether its answer may be streamed.
        request_id: the answer carries it too, so that a reader can find the request in the log.
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
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def header(self, name: str) -> str | None:
        """The last header with this name, in lower case. Upper and lower case do not matter in the request."""
        values = [value for key, value in self.headers if key.lower() == name]
        return values[-1] if values else None


@dataclass(frozen=True)
class Payload:
    """One payload format of API Gateway.

    Attributes:
        event: makes the event for a request.
        answer: makes the HTTP answer from the function's payload. Raises MalformedAnswerError.
        failed: status and message of the gateway's own answer if the function failed, or its answer is malformed.
        timed_out: ... if the function took longer than the gateway waits.
        too_large: ... if the request is larger than the gateway or Lambda accepts.
        request_id_header: the header of the answer that carries the request id.
    """

    event: Callable[[GatewayRequest], dict[str, Any]]
    answer: Callable[[bytes], GatewayResponse]
    failed: tuple[HTTPStatus, str]
    timed_out: tuple[HTTPStatus, str]
    too_large: tuple[HTTPStatus, str]
    request_id_header: str

    @staticmethod
    def refusal(refused: tuple[HTTPStatus, str]) -> GatewayResponse:
        """The gateway's own answer."""
        status, message = refused
        return GatewayResponse(
            status, [("Content-Type", "application/json")], json.dumps({"message": message}).encode()
        )


def _forwarded(request: GatewayRequest) -> list[tuple[str, str]]:
    """The request's headers as the gateway passes them on: without hop-by-hop headers, with X-Forwarded headers."""
    kept = [(name, value) for name, value in request.headers if name.lower() not in HOP_BY_HOP]
    before = [value for name, value in kept if name.lower() == "x-forwarded-for"]
    kept = [(name, value) for name, value in kept if not name.lower().startswith("x-forwarded-")]
    return [
        *kept,
        ("X-Forwarded-For", ", ".join([*before, request.source_ip])),
        ("X-Forwarded-Port", str(request.port)),
        ("X-Forwarded-Proto", "http"),
    ]


def _query(request: GatewayRequest) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True, errors="replace"):
        values.setdefault(name, []).append(value)
    return values


def _as_text(body: bytes) -> tuple[str, bool]:
    """A body as an event carries it, and whether it is base64."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def _clock(request: GatewayRequest) -> tuple[str, int]:
    return request.time.strftime("%d/%b/%Y:%H:%M:%S +0000"), int(request.time.timestamp() * 1000)


def rest_event(request: GatewayRequest) -> dict[str, Any]:
    """Format 1.0, for REST APIs. A missing value is null. Each name has its last value and the list of its values."""
    headers: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, value in _forwarded(request):
        headers.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    query = _query(request)
    body, is_base64 = _as_text(request.body)
    time, epoch = _clock(request)
    proxy = request.path.removeprefix("/").rstrip("/")
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
        "stageVariables": dict(request.stage_variables) or None,
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


def http_event(request: GatewayRequest) -> dict[str, Any]:
    """Format 2.0, also for function URLs. Headers are in lower case, repetitions are joined, missing values left out."""
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
        **({"stageVariables": dict(request.stage_variables)} if request.stage_variables else {}),
        **({"body": body} if request.body else {}),
        "isBase64Encoded": is_base64,
    }


# The gateways' own answers. A REST API has the default gateway responses INTEGRATION_FAILURE, INTEGRATION_TIMEOUT and
# REQUEST_TOO_LARGE. The words of an HTTP API are different.
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
