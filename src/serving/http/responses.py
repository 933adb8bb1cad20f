"""Answers: what a route returns, the proxy form that Lambda's callers take, and the CORS headers of every answer."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from serving.errors import HttpError
from serving.http.events import CANARY_KEY

if TYPE_CHECKING:
    from serving.telemetry.pieces import PieceCounts

# Scripts of another origin may read these: which release answered, and what the answer took.
EXPOSED_HEADERS = "X-Model-Version, Server-Timing"
# What OpenAI's JavaScript client sends from a page beside these (openai-node: src/client.ts and detect-platform.ts). They
# are named one by one: a wildcard means nothing in a request with credentials, and never covers Authorization.
OPENAI_HEADERS = (
    *("User-Agent", "OpenAI-Organization", "OpenAI-Project"),
    *(f"X-Stainless-{name}" for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version")),
    *(f"X-Stainless-{name}" for name in ("Retry-Count", "Timeout", "Helper-Method")),
)
ALLOWED_HEADERS = ", ".join(
    (
        *("Content-Type", "Authorization", "X-Api-Key", "X-Amz-Date", "X-Amz-Security-Token"),
        *(CANARY_KEY, *OPENAI_HEADERS),
    )
)
PREFLIGHT_SECONDS = 600
# Timing-Allow-Origin lets the browser's own tools and `performance.getEntries()` show Server-Timing (W3C Resource
# Timing).
_FOR_ANY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": EXPOSED_HEADERS,
    "Timing-Allow-Origin": "*",
}
# The largest answer that Lambda passes on, in bytes (Lambda quotas, "Invocation payload"), less space for the headers.
MAX_ANSWER_BYTES = 6_291_456 - 16_384

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class BodyPieces(Protocol):
    """A body in pieces, an iterator of bytes (`serving.http.streaming.PieceStream`).

    Attributes:
        counts: how many pieces there were, and when.
        ended: why the answer ended; empty before its end.
        code: the error's code, where the answer ended with an error.
        finished: is called once, after the end.
    """

    counts: "PieceCounts"
    ended: str
    code: str | None
    finished: Callable[[], object] | None

    @property
    def text(self) -> str:
        """What was sent, or its beginning; empty unless the log has answers."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def close(self, reason: str = ..., /) -> None:
        """End the answer here, if it has not ended."""
        ...


class HttpResponse(NamedTuple):
    """What a route answers. `content_type` is that of the body, if there is one.

    Attributes:
        is_base64: whether the body is bytes, as base64.
        pieces: the body in pieces, instead of `body`. Whoever gets it reads it to its end, or closes it.
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] = _NO_HEADERS
    content_type: str = "application/json"
    pieces: "BodyPieces | None" = None
    is_base64: bool = False


class Cors:
    """CORS headers for an origin (Fetch standard, "CORS protocol").

    Args:
        origins: `("*",)` for every origin, or the origins that may call.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        self._any_origin = "*" in self._origins
        self._first = origins[0]

    def headers(self, origin: str | None) -> dict[str, str]:
        """The headers for an answer to a page of `origin` (None: no browser, or the same origin)."""
        if self._any_origin:
            return dict(_FOR_ANY_ORIGIN)
        # An origin that may not call gets the name of one that may: the browser compares the two, and refuses.
        allowed = origin if origin in self._origins else self._first
        return {
            "Access-Control-Allow-Origin": str(allowed),
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            "Timing-Allow-Origin": str(allowed),
            "Vary": "Origin",
        }

    def preflight(self, methods: Sequence[str]) -> dict[str, str]:
        """What the answer to a preflight has beside `headers`."""
        return {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }


def success(body: str, version: str | None) -> HttpResponse:
    """200 with a JSON body, and the version of the release that answered, if there is one."""
    return HttpResponse(200, body, {"X-Model-Version": version} if version else _NO_HEADERS)


def failure(error: HttpError) -> HttpResponse:
    """The answer that an error stands for."""
    return HttpResponse(error.status, json_text(error.body()), error.headers)


def proxy_form(response: HttpResponse) -> dict[str, Any]:
    """An answer in the form that API Gateway, function URLs and direct callers take."""
    return {
        "statusCode": response.status,
        "headers": headers_of(response),
        "body": response.body,
        "isBase64Encoded": response.is_base64,
    }


def headers_of(response: HttpResponse) -> dict[str, str]:
    """The answer's own headers, with the type of its body if there is one."""
    has_body = response.body or response.pieces is not None
    return {**({"Content-Type": response.content_type} if has_body else {}), **response.headers}


def check_size(body: str) -> None:
    """Refuse an answer that Lambda would drop. The client would get a 502 without a reason.

    Raises:
        HttpError: 400 `answer_too_large`.
    """
    # Each character of JSON text is at most four bytes of the proxy form. The form is only made where that can matter.
    if len(body) * 4 <= MAX_ANSWER_BYTES:
        return
    if len(json.dumps(body, ensure_ascii=False).encode(errors="replace")) > MAX_ANSWER_BYTES:
        raise HttpError(
            400,
            "answer_too_large",
            "The answer is larger than Lambda passes on. Next: ask for less at once.",
            {"max_answer_bytes": MAX_ANSWER_BYTES},
        )


def json_text(value: Any) -> str:
    """Compact JSON.

    NaN and infinities, which JSON does not have, raise ValueError here and do not fail at the client.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
