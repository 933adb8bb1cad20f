"""Which kind of event is this? Every kind becomes one form, `Http`, before it is routed.

Kinds, with AWS's documents: API Gateway REST (payload 1.0: "Lambda proxy integrations in API Gateway"), HTTP API and function
URL (payload 2.0: "AWS Lambda integrations for HTTP APIs", "Invoking Lambda function URLs"), and the bare JSON of a direct
invocation, which stands for `POST /predict` with that JSON as its body. Two kinds are not HTTP, and nobody waits for them:
messages of an SQS queue ("Using Lambda with Amazon SQS"), and batches of a bulk file, as the stack's state machine sends them.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

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


class Http(NamedTuple):
    """A request, whichever kind of event brought it.

    Attributes:
        method: in capitals.
        path: without a stage, and without a slash at its end.
        headers: as they came, their names in any case; null for a header that is not there.
    """

    method: str
    path: str
    headers: Mapping[str, Any] = MappingProxyType({})
    body: str = ""
    is_base64: bool = False

    def header(self, name: str) -> str | None:
        """The header of this name, given in lower case."""
        # Asked for one or two names a request: looking is cheaper than bringing twenty names into one form.
        for each, text in self.headers.items():
            if text is not None and each.lower() == name:
                return str(text)
        return None


def to_http(event: Any) -> Http:
    """The request that an event brings.

    Raises:
        ServiceError: 400 `invalid_event`: it has the marks of an API Gateway event, but its parts are not of their types.
    """
    if not isinstance(event, dict):
        return Http("POST", "/predict", body=json.dumps(event))
    context = event.get("requestContext")
    if isinstance(context, dict) and isinstance(context.get("http"), dict):
        http = context["http"]
        path = _text(event.get("rawPath", http.get("path")), "rawPath")
        stage = context.get("stage", "$default")
        # HTTP APIs with a named stage put it before the path; a route is the same on every stage.
        if stage != "$default" and (path == f"/{stage}" or path.startswith(f"/{stage}/")):
            path = path[len(f"/{stage}") :]
        return _http(_text(http.get("method"), "requestContext.http.method"), path, event)
    if "httpMethod" in event:
        return _http(_text(event["httpMethod"], "httpMethod"), _text(event.get("path"), "path"), event)
    return Http("POST", "/predict", body=json.dumps(event))


def body_of(http: Http, max_bytes: int) -> str:
    """The request's body as text.

    Raises:
        ServiceError: 413 `body_too_large`, 400 `invalid_base64` or `invalid_encoding`.
    """
    body = http.body
    if not http.is_base64:
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


def _http(method: str, path: str, event: dict[str, Any]) -> Http:
    headers, body = event.get("headers"), event.get("body")
    # API Gateway's test console sends null for none.
    if headers is not None and not isinstance(headers, dict):
        raise ServiceError(400, "invalid_event", "The event's headers are not an object.")
    text = "" if body is None else _text(body, "body")
    return Http(method.upper(), path.rstrip("/") or "/", headers or {}, text, bool(event.get("isBase64Encoded")))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ServiceError(400, "invalid_event", f"The event's {name} is not a string.")
    return value
