"""Which kind of event is this? Every kind becomes one form, HTTP API payload 2.0, before it is routed.

Kinds, with AWS's documents: API Gateway REST (payload 1.0: "Lambda proxy integrations in API Gateway"), HTTP API and function
URL (payload 2.0: "AWS Lambda integrations for HTTP APIs", "Invoking Lambda function URLs"), and the bare JSON of a direct
invocation, which stands for `POST /predict` with that JSON as its body. Two kinds are not HTTP, and nobody waits for them:
messages of an SQS queue ("Using Lambda with Amazon SQS"), and batches of a bulk file, as the stack's state machine sends them.
"""

import base64
import binascii
import json
from typing import Any, Literal

from serving.errors import ServiceError


def kind(event: Any) -> Literal["http", "messages", "batch"]:
    """Whether somebody waits for an answer, or it is messages of a queue, or a batch of a bulk file."""
    if isinstance(event, dict):
        if event.get("lambda-torch") == "bulk":
            return "batch"
        records = event.get("Records")
        if isinstance(records, list) and records and isinstance(records[0], dict):
            return "messages" if records[0].get("eventSource") == "aws:sqs" else "http"
    return "http"


def to_http(event: Any) -> dict[str, Any]:
    """The event in payload 2.0's form: `rawPath`, `headers` with lower-case names, `body`, `requestContext.http.method`.

    Raises:
        ServiceError: 400 `invalid_event`: it has the marks of an API Gateway event, but its parts are not of their types.
    """
    if not isinstance(event, dict):
        return _http("POST", "/predict", {}, json.dumps(event), False, {})
    context = event.get("requestContext")
    if isinstance(context, dict) and isinstance(context.get("http"), dict):
        http = context["http"]
        path = _text(event.get("rawPath", http.get("path")), "rawPath")
        stage = context.get("stage", "$default")
        # HTTP APIs with a named stage put it before the path; a route is the same on every stage.
        if stage != "$default" and (path == f"/{stage}" or path.startswith(f"/{stage}/")):
            path = path[len(f"/{stage}") :]
        return _http(
            _text(http.get("method"), "requestContext.http.method"),
            path,
            _headers(event.get("headers")),
            _body(event.get("body")),
            bool(event.get("isBase64Encoded", False)),
            event,
        )
    if "httpMethod" in event:
        return _http(
            _text(event["httpMethod"], "httpMethod"),
            _text(event.get("path"), "path"),
            _headers(event.get("headers")),
            _body(event.get("body")),
            bool(event.get("isBase64Encoded", False)),
            event,
        )
    return _http("POST", "/predict", {}, json.dumps(event), False, {})


def body_of(http: dict[str, Any], max_bytes: int) -> str:
    """The request's body as text.

    Raises:
        ServiceError: 413 `body_too_large`, 400 `invalid_base64` or `invalid_encoding`.
    """
    body: str = http["body"]
    if not http["isBase64Encoded"]:
        # A character is one to four bytes of UTF-8: the encoding is only made where it can matter.
        if len(body) > max_bytes or (len(body) * 4 > max_bytes and len(body.encode(errors="replace")) > max_bytes):
            raise _too_large(max_bytes)
        return body
    # Four characters of base64 carry three bytes: refuse before decoding what cannot fit.
    if len(body) // 4 * 3 - 2 > max_bytes:
        raise _too_large(max_bytes)
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ServiceError(400, "invalid_base64", "The body is marked as base64, but it is not.") from None
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ServiceError(400, "invalid_encoding", "The body is not UTF-8 text.") from None


def _too_large(max_bytes: int) -> ServiceError:
    return ServiceError(
        413, "body_too_large", f"The body has more than {max_bytes} bytes.", {"max_body_bytes": max_bytes}
    )


def _http(
    method: str, path: str, headers: dict[str, str], body: str, is_base64: bool, event: dict[str, Any]
) -> dict[str, Any]:
    context = event.get("requestContext")
    identity = context.get("requestId") if isinstance(context, dict) else None
    return {
        "version": "2.0",
        "rawPath": path.rstrip("/") or "/",
        "headers": headers,
        "body": body,
        "isBase64Encoded": is_base64,
        "requestContext": {
            "stage": "$default",
            "requestId": identity if isinstance(identity, str) else "",
            "http": {"method": method.upper(), "path": path},
        },
    }


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ServiceError(400, "invalid_event", f"The event's {name} is not a string.")
    return value


def _headers(value: Any) -> dict[str, str]:
    """Header names in lower case. API Gateway's test console sends null for none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ServiceError(400, "invalid_event", "The event's headers are not an object.")
    return {str(name).lower(): str(text) for name, text in value.items() if text is not None}


def _body(value: Any) -> str:
    return "" if value is None else _text(value, "body")
