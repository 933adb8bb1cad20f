"""Answers in the proxy form that API Gateway, function URLs and the 2018 post's callers take, with CORS on every one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from serving.errors import ServiceError

# Scripts of another origin may read these: which release answered, and what the answer took.
EXPOSED_HEADERS = "X-Model-Version, Server-Timing"
ALLOWED_HEADERS = "Content-Type, Authorization, X-Api-Key, X-Amz-Date, X-Amz-Security-Token"
PREFLIGHT_SECONDS = 600
# Timing-Allow-Origin lets the browser's own tools and `performance.getEntries()` show Server-Timing (W3C Resource Timing).
_FOR_ANYONE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": EXPOSED_HEADERS,
    "Timing-Allow-Origin": "*",
}
# What Lambda passes on of an answer, in bytes (Lambda quotas, "Invocation payload"), less room for the headers.
MAX_ANSWER_BYTES = 6_291_456 - 16_384


class Cors:
    """CORS headers for an origin (Fetch standard, "CORS protocol").

    Args:
        origins: `("*",)` for every origin, or the origins that may call.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        self._anyone = "*" in self._origins
        self._first = origins[0]

    def headers(self, origin: str | None) -> dict[str, str]:
        """The headers for an answer to a page of `origin` (None: no browser, or the same origin)."""
        if self._anyone:
            return dict(_FOR_ANYONE)
        # Naming an allowed origin to a stranger lets nobody in: the browser compares it with the page's own.
        allowed = origin if origin in self._origins else self._first
        return {
            "Access-Control-Allow-Origin": str(allowed),
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            "Timing-Allow-Origin": str(allowed),
            "Vary": "Origin",
        }

    def preflight(self, methods: Sequence[str]) -> dict[str, str]:
        """What a preflight is told on top of `headers`."""
        return {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }


def answer(
    status: int, body: str, headers: Mapping[str, str], content_type: str = "application/json"
) -> dict[str, Any]:
    """One answer in the proxy form; `content_type` is that of the body, if there is one."""
    kind = {"Content-Type": content_type} if body else {}
    return {"statusCode": status, "headers": {**kind, **headers}, "body": body, "isBase64Encoded": False}


def check_size(body: str) -> None:
    """Refuse an answer that Lambda would drop: the client would get a 502 that does not say why.

    Raises:
        ServiceError: 400 `answer_too_large`.
    """
    # A character of JSON text is at most four bytes of the envelope's JSON: it is only made where that can matter.
    if len(body) * 4 <= MAX_ANSWER_BYTES:
        return
    if len(json.dumps(body, ensure_ascii=False).encode(errors="replace")) > MAX_ANSWER_BYTES:
        raise ServiceError(
            400,
            "answer_too_large",
            "The answer is larger than Lambda passes on. Next: ask for less at once.",
            {"max_answer_bytes": MAX_ANSWER_BYTES},
        )


def compact(value: Any) -> str:
    """Any value that came as JSON, as ASCII JSON again. It takes a fourth of the time of `json.dumps`."""
    try:
        return to_json(value, ensure_ascii=True, fallback=str).decode()
    except ValueError:  # half of a surrogate pair, which UTF-8 does not have and JSON does; or very deep nesting
        return json.dumps(value, separators=(",", ":"), default=str)


def json_text(value: Any) -> str:
    """Compact JSON; NaN and infinities, which JSON does not have, are an error here and not at the client."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
