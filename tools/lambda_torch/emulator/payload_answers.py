"""The function's answers, made into HTTP responses as API Gateway does: one pure function for each payload format.

Sources: as in `payloads`.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Headers = Sequence[tuple[str, str]]

# RFC 9110, 7.6.1: these headers concern one connection, not the request. The server answers `Expect` itself.
HOP_BY_HOP = frozenset(
    ("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
# The server computes these for its own answer.
_NOT_FROM_THE_FUNCTION = HOP_BY_HOP | {"content-length"}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class GatewayResponse:
    """An HTTP response, without the headers that the server adds (Content-Length, Date, ...)."""

    status: int
    headers: Headers
    body: bytes


class MalformedAnswerError(ValueError):
    """API Gateway does not understand the function's answer. The message says what is wrong with it."""


def rest_answer(payload: bytes) -> GatewayResponse:
    """The answer in format 1.0: an object with these members and no others. A missing statusCode means 200."""
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
    # A pair that is in both members counts once.
    headers = [*multiple, *(pair for pair in headers if pair not in multiple)]
    return _answer(answer, headers, "application/json")


def http_answer(payload: bytes) -> GatewayResponse:
    """The answer in format 2.0. JSON without a statusCode is the body of a response with status 200."""
    answer = _json(payload)
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer.encode() if isinstance(answer, str) else payload
        return GatewayResponse(HTTPStatus.OK, [("Content-Type", "application/json")], body)
    headers = _single_headers(answer)
    headers += [("Set-Cookie", _header_value("cookies", cookie)) for cookie in _list(answer.get("cookies"), "cookies")]
    return _answer(answer, headers, "text/plain;charset=utf-8")


def stream_head(prelude: Any, content_type: str, *, has_prelude: bool) -> GatewayResponse:
    """Status and headers of a streamed answer, from its prelude. Without one, the pieces have the type of the request."""
    if not has_prelude:
        return GatewayResponse(HTTPStatus.OK, [("Content-Type", content_type)], b"")
    if not isinstance(prelude, dict):
        raise MalformedAnswerError("its prelude is not a JSON object")
    headers = _single_headers(prelude)
    headers += [
        (name, _header_value(name, value))
        for name, values in _mapping(prelude, "multiValueHeaders").items()
        for value in _list(values, f"multiValueHeaders.{name}")
    ]
    headers += [("Set-Cookie", _header_value("cookies", cookie)) for cookie in _list(prelude.get("cookies"), "cookies")]
    return _answer({"statusCode": prelude.get("statusCode", 200)}, headers, "application/octet-stream")


def _answer(answer: Mapping[str, Any], headers: list[tuple[str, str]], default_type: str) -> GatewayResponse:
    headers = [(name, value) for name, value in headers if name.lower() not in _NOT_FROM_THE_FUNCTION]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", default_type))
    return GatewayResponse(_status(answer.get("statusCode", 200)), headers, _answer_body(answer))


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
        raise MalformedAnswerError("its body is not a string (API Gateway accepts no object there: use json.dumps)")
    try:
        if answer.get("isBase64Encoded"):
            return base64.b64decode(body, validate=True)
        return body.encode()
    except (binascii.Error, ValueError) as error:
        raise MalformedAnswerError(f"its body cannot be sent: {error}") from error
