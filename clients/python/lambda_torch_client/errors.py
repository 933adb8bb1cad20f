"""What can go wrong, and what to do next.

ModelServiceError
  x UnreachableError     nothing answers at the address, or the connection breaks
  x ApiError             the service answers with an error
    + RequestError       4xx: the request must change
    + AccessError        401, 403: the caller may not
    + ThrottledError     429: more requests than the limits allow
    + UnavailableError   502, 503, 504: no answer now
    + DefectError        500 and others: the log of the function has the cause
  x StreamError          an answer in pieces ends before its end, or is no answer in pieces
  x UploadError          a file cannot be sent to the bucket
"""

from collections.abc import Mapping
from typing import Any

# What API Gateway refuses itself has no code and no next step. By status: a code, and what to do next.
GATEWAY = {
    401: ("unauthorized", "give the client a token that the API's authorizer takes"),
    403: ("forbidden", "check the key, the credentials, or the permission execute-api:Invoke of their role"),
    413: ("body_too_large", "send the file with `upload`, or ask for less at once"),
    429: ("throttled", "send fewer requests at a time, or raise the limits of the stack"),
    502: ("bad_gateway", "ask again; the log of the function says why it gave no usable answer"),
    503: ("service_unavailable", "ask again"),
    504: ("gateway_timeout", "ask for less at once, or give the stack a longer Timeout"),
}


class ModelServiceError(Exception):
    """The request got no answer. Base class of all others.

    Attributes:
        next_step: what to do about it; empty where nothing is known.
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(f"{message} Next: {next_step}." if next_step else message)
        self.next_step = next_step


class UnreachableError(ModelServiceError):
    """Nothing answers at the address, or the connection breaks. The cause is the error of httpx2.

    Attributes:
        in_time: False if the answer took longer than the client's `timeout`. The same request would take as long again.
    """

    def __init__(self, message: str, next_step: str = "", in_time: bool = True) -> None:
        super().__init__(message, next_step)
        self.in_time = in_time


class ApiError(ModelServiceError):
    """The service answers with an error.

    Attributes:
        status: the HTTP status; None for an item of a list, and for an error after the first piece of a stream.
        code: for programs. It does not change. docs/api.md lists the function's codes.
        details: facts, such as `problems` of an invalid request.
        request_id: the id that the function's log has; None where the answer names none.
        retry_after: seconds after which the service wants to be asked again; None where it says nothing.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        details: Mapping[str, Any],
        next_step: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, next_step)
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after


class RequestError(ApiError):
    """The request must change: the message and `details` say how."""


class AccessError(ApiError):
    """The caller may not use this API."""


class ThrottledError(ApiError):
    """More requests than the limits allow, after all retries."""


class UnavailableError(ApiError):
    """No answer now, after all retries."""


class DefectError(ApiError):
    """A defect of the service or of its model."""


class StreamError(ModelServiceError):
    """An answer in pieces ended before its end, or the answer is none in pieces."""


class UploadError(ModelServiceError):
    """A file cannot be sent to the bucket."""


def api_error(
    status: int | None, body: Any, request_id: str | None = None, retry_after: float | None = None
) -> ApiError:
    """The error that a body says, `{"error": {...}}` of the function or `{"message": ...}` of API Gateway.

    Args:
        status: the HTTP status; None for an item of a list or the end of a stream.
        body: the decoded JSON, or anything else.
    """
    found = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(found, Mapping) and isinstance(found.get("code"), str):
        code, said = found["code"], str(found.get("message") or found["code"])
        details = found["details"] if isinstance(found.get("details"), Mapping) else {}
        message, _, step = said.partition(" Next: ")
        return _kind(status, code)(status, code, message, details, step.rstrip("."), request_id, retry_after)
    code, step = GATEWAY.get(status or 0, ("unknown", ""))
    reason = body.get("message") or body.get("Message") if isinstance(body, Mapping) else None
    message = f"The service answers with status {status}" + (f": {reason}." if reason else ".")
    return _kind(status, code)(status, code, message, {}, step, request_id, retry_after)


def _kind(status: int | None, code: str) -> type[ApiError]:
    if status is None:
        return DefectError if code == "internal_error" else RequestError
    if status in (401, 403):
        return AccessError
    if status == 429:
        return ThrottledError
    if status in (502, 503, 504):
        return UnavailableError
    return RequestError if 400 <= status < 500 else DefectError
