"""The kinds of event that Lambda hands over, and HTTP requests of each kind in one form, `HttpRequest`.

These events are HTTP, with AWS's documents: API Gateway REST (payload 1.0: "Lambda proxy integrations in API Gateway"),
HTTP API and function URL (payload 2.0: "AWS Lambda integrations for HTTP APIs", "Invoking Lambda function URLs"), and
the bare JSON of a direct invocation, which means `POST /predict` with that JSON as its body. Two kinds are not HTTP,
and no client waits for them: messages of an SQS queue ("Using Lambda with Amazon SQS"), and batches of a bulk file,
which the stack's state machine sends.
"""

import base64
import binascii
import enum
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from serving.errors import HttpError

# Names of results in the bucket: a message's own id, which SQS gives it, or the one that its sender gave it.
RESULT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_QUERIES = ("rawQueryString", "multiValueQueryStringParameters", "queryStringParameters")
# A client that sends this header gets the same release each time while a canary runs.
CANARY_KEY = "X-Canary-Key"
# The stage variable by which an event says that its API takes streams: `on`, or `pieces` (see `Transfer`).
STREAM_MARK = "responseStreaming"
# A variable in the path of an API Gateway resource: {name}, or {name+} for all that follows.
_PATH_VARIABLE = re.compile(r"\{([^{}+]+)\+?\}")


class Transfer(enum.Enum):
    """How the caller of an HTTP event takes the answer.

    Lambda does not say it: a function that streams to a caller that does not expect it gives that caller the bytes of
    the stream, and one that does not stream gives API Gateway no answer. So the event has to say it.
    """

    WHOLE = enum.auto()
    """In the proxy form."""
    PIECES = enum.auto()
    """Answers in pieces as a stream, others in the proxy form."""
    STREAM = enum.auto()
    """As a stream, whole answers too."""


def transfer(event: Any, streams: frozenset[str]) -> Transfer:
    """How the caller takes the answer to this event, of those ways that this function has (`Settings.streams`).

    API Gateway tells the function the variables of the stage, and a function URL its own domain. A direct invocation
    has neither, even with an event of the same form.
    """
    context = event.get("requestContext") if isinstance(event, dict) else None
    if not isinstance(context, dict):
        return Transfer.WHOLE
    variables, domain = event.get("stageVariables"), context.get("domainName")
    mark = variables.get(STREAM_MARK) if isinstance(variables, dict) else None
    if "api" in streams and mark in ("on", "pieces"):
        return Transfer.STREAM if mark == "on" else Transfer.PIECES
    if "url" in streams and isinstance(domain, str) and ".lambda-url." in domain:
        return Transfer.STREAM
    return Transfer.WHOLE


def gateway_began(event: Any) -> float | None:
    """When API Gateway got the request of this event, in seconds since 1970; None if no API waits for the answer."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    if not isinstance(context, dict) or ".lambda-url." in str(context.get("domainName")):
        return None
    milliseconds = context.get("requestTimeEpoch", context.get("timeEpoch"))
    return milliseconds / 1000 if isinstance(milliseconds, int) else None


def kind(event: Any) -> Literal["http", "messages", "batch"]:
    """Whether the event is HTTP, messages of a queue, or a batch of a bulk file."""
    if isinstance(event, dict):
        if event.get("lambda-torch") == "bulk":
            return "batch"
        records = event.get("Records")
        if isinstance(records, list) and records and all(map(_is_message, records)):
            return "messages"
    return "http"


def _is_message(record: Any) -> bool:
    """Whether a record has the parts of an SQS message that are always there.

    Anything else is a bare event, and no message.
    """
    return (
        isinstance(record, dict)
        and record.get("eventSource") == "aws:sqs"
        and isinstance(record.get("messageId"), str)
        and RESULT_ID.fullmatch(record["messageId"]) is not None
        and isinstance(record.get("body"), str)
    )


class HttpRequest(NamedTuple):
    """An HTTP request, whichever kind of event brought it.

    Attributes:
        method: in capitals.
        path: without a stage, without a custom domain's base path, without the prefix of the model in a stack with
            several, and without a slash at its end.
        headers: as they came, with names in any case. A value of null is no header.
        body: as it came.
        is_base64: whether the body is base64.
        query: the query string, or what the event has in its place: names with their values or lists of them.
    """

    method: str
    path: str
    headers: Mapping[str, Any] = MappingProxyType({})
    body: str = ""
    is_base64: bool = False
    query: Any = None

    def header(self, name: str) -> str | None:
        """The header of this name, which has to be in lower case."""
        # Requests look for one or two names: a search is cheaper than all names in lower case.
        for each, text in self.headers.items():
            if text is not None and each.lower() == name:
                return str(text)
        return None


def to_http(event: Any, route_prefix: str = "") -> HttpRequest:
    """The request that an event brings.

    Args:
        event: of any HTTP kind.
        route_prefix: what the API has before the function's own routes. Paths without it are taken as they are: a
            function URL has none.

    Raises:
        HttpError: 400 `invalid_event` (it looks like an event of API Gateway, but a part has the wrong type), or 400
            `invalid_json` (a bare event that cannot be written as JSON).
    """
    if not isinstance(event, dict):
        return HttpRequest("POST", "/predict", body=json_text(event))
    context = event.get("requestContext")
    if isinstance(context, dict) and isinstance(context.get("http"), dict):
        http = context["http"]
        path = _text(event.get("rawPath", http.get("path")), "rawPath")
        stage = context.get("stage", "$default")
        # HTTP APIs with a named stage put it before the path. Routes are the same on every stage.
        if stage != "$default" and (path == f"/{stage}" or path.startswith(f"/{stage}/")):
            path = path[len(f"/{stage}") :]
        # "POST /predict"; "$default" for a route that takes everything.
        route = event.get("routeKey")
        resource = route.partition(" ")[2] if isinstance(route, str) else None
        path = _own(_routed(path, resource, event), route_prefix)
        return _http(_text(http.get("method"), "requestContext.http.method"), path, event)
    if "httpMethod" in event:
        path = _text(event.get("path"), "path")
        path = _own(_routed(path, event.get("resource"), event), route_prefix)
        return _http(_text(event["httpMethod"], "httpMethod"), path, event)
    return HttpRequest("POST", "/predict", body=json_text(event))


def json_text(value: Any) -> str:
    """The JSON text of a value that came as JSON.

    Raises:
        HttpError: 400 `invalid_json`: it is nested too deeply.
    """
    try:
        return json.dumps(value)
    except RecursionError:
        raise too_deep() from None


def too_deep() -> HttpError:
    """The refusal of JSON that is nested too deeply to be read."""
    return HttpError(400, "invalid_json", "The body is not JSON that can be read: it is nested too deeply.")


def body_of(request: HttpRequest, max_bytes: int) -> str:
    """The request's body as text.

    Raises:
        HttpError: 413 `body_too_large`, 400 `invalid_base64` or `invalid_encoding`.
    """
    body = request.body
    if not request.is_base64:
        # A character is one to four bytes of UTF-8: the body is encoded only where that can matter.
        if len(body) > max_bytes or (len(body) * 4 > max_bytes and len(body.encode(errors="replace")) > max_bytes):
            raise _too_large(max_bytes)
        return body
    try:
        return bytes_of(request, max_bytes).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "invalid_encoding", "The body is not UTF-8 text.") from None


def bytes_of(request: HttpRequest, max_bytes: int) -> bytes:
    """The request's body as bytes.

    Raises:
        HttpError: 413 `body_too_large`, 400 `invalid_base64`.
    """
    body = request.body
    if not request.is_base64:
        return body_of(request, max_bytes).encode(errors="replace")
    # Four characters of base64 are three bytes: a body that cannot fit is refused before it is decoded.
    if len(body) // 4 * 3 - 2 > max_bytes:
        raise _too_large(max_bytes)
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise HttpError(400, "invalid_base64", "The event says that the body is base64, but it is not.") from None
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    return content


def canary_key(request: HttpRequest, text: str) -> bytes:
    """What decides between the current release and a canary: the client's own key, or else the request's text."""
    return (request.header(CANARY_KEY.lower()) or text).encode(errors="replace")


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(413, "body_too_large", f"The body has more than {max_bytes} bytes.", {"max_body_bytes": max_bytes})


def _routed(path: str, resource: Any, event: Mapping[str, Any]) -> str:
    """The path without the base path of a custom domain.

    The event does not name the base path, and `path` begins with it. But the event names the API's resource, such as
    `/predict` or `/{proxy+}`, with the values of its variables: filled in, they are the end of the path, and what comes
    before is the base path.
    """
    if resource == path or not isinstance(resource, str) or not resource.startswith("/"):
        return path
    found = event.get("pathParameters")
    values = found if isinstance(found, dict) else {}
    filled = _PATH_VARIABLE.sub(lambda variable: str(values.get(variable[1], "")), resource)
    return filled if path.rstrip("/").endswith(filled.rstrip("/")) else path


def _own(path: str, route_prefix: str) -> str:
    """The path among the function's own routes."""
    return path[len(route_prefix) :] if path == route_prefix or path.startswith(f"{route_prefix}/") else path


def _http(method: str, path: str, event: Mapping[str, Any]) -> HttpRequest:
    headers, body = event.get("headers"), event.get("body")
    # API Gateway's test console sends null for none.
    if headers is not None and not isinstance(headers, dict):
        raise HttpError(400, "invalid_event", "The event's headers are not an object.")
    text = "" if body is None else _text(body, "body")
    # Format 2.0 has the query string itself. In format 1.0 the first member has all values of a name.
    query = next(filter(None, map(event.get, _QUERIES)), None)
    is_base64 = bool(event.get("isBase64Encoded"))
    return HttpRequest(method.upper(), path.rstrip("/") or "/", headers or {}, text, is_base64, query)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise HttpError(400, "invalid_event", f"The event's {name} is not a string.")
    return value
