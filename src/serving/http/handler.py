"""From an HTTP event to its answer, whatever happens on the way, and to its line in the log."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from serving.errors import HttpError, ReleaseUnavailableError
from serving.http import events, responses, routes
from serving.http.events import HttpRequest, Transfer
from serving.http.responses import BodyPieces, HttpResponse
from serving.http.service import Invocation, Reader, Service
from serving.telemetry.receipts import Receipt

if TYPE_CHECKING:
    from serving.runtime.answer import StreamedAnswer

# "Quotas for configuring and running a REST API": the integration timeout of a whole answer.
GATEWAY_SECONDS = 29.0


def handle(service: Service, event: Any, context: Any) -> "dict[str, Any] | StreamedAnswer":
    """Answer an HTTP event in the form that its caller takes, and log the request. Never raises.

    Args:
        event: of any HTTP kind of `serving.http.events`.
        context: Lambda's context of the call; None outside Lambda.

    Returns:
        The proxy form, or what `serving.runtime` sends in pieces.
    """
    transfer = events.transfer(event, service.streams) if service.streams else Transfer.WHOLE
    seconds_left = _seconds_left(service, context)
    whole_seconds_left = seconds_left if transfer is Transfer.STREAM else _until_the_api_gives_up(event, seconds_left)
    reader = Reader(seconds_left, transfer is not Transfer.WHOLE, whole_seconds_left)
    invocation = Invocation(Receipt(), getattr(context, "aws_request_id", None), reader)
    request, response, code = respond(service, event, invocation)
    pieces = response.pieces
    if pieces is None:
        answer = responses.proxy_form(response)
        timing = _log(service, invocation, request, response, code)
        cors = service.cors.headers(request.header("origin"))
        varies = [each["Vary"] for each in (answer["headers"], cors) if "Vary" in each]
        answer["headers"] |= cors | {"Server-Timing": timing} | ({"Vary": ", ".join(varies)} if varies else {})
        if transfer is not Transfer.STREAM:
            return answer
        from serving.http import delivery

        return delivery.as_stream(answer, reader)
    from serving.http import delivery

    # The log's line is written at the end. The header is made now, so its times are those until the first piece.
    pieces.finished = lambda: _log(service, invocation, request, response, pieces.code, pieces)
    timing = service.request_log.timing(invocation.receipt)
    headers = service.cors.headers(request.header("origin")) | {"Server-Timing": timing}
    return delivery.deliver(response, pieces, headers, reader)


def _log(
    service: Service,
    invocation: Invocation,
    request: HttpRequest,
    response: HttpResponse,
    code: str | None,
    pieces: BodyPieces | None = None,
) -> str:
    """Write a request's line in the log, if it is due. Returns its `Server-Timing`."""
    more: dict[str, Any] = {}
    answered, counts = response.body, None
    if pieces is not None:
        from serving.http import delivery

        more = delivery.account(invocation.receipt, pieces)
        answered, counts = pieces.text, pieces.counts
    entry = service.request_log.entry(invocation.receipt, code, service.slot.age_seconds(), counts)
    if not entry.is_due:
        return entry.server_timing
    service.log.write(
        "INFO",
        "request",
        {
            "request_id": invocation.request_id,
            "method": request.method,
            "path": request.path[:100],
            "status": response.status,
            "release": response.headers.get("X-Model-Version"),
            **entry.facts,
            **more,
            **(_contents(request, response, answered) if service.settings.log_requests else {}),
        },
        entry.metrics,
    )
    return entry.server_timing


def _seconds_left(service: Service, context: Any) -> Callable[[], float]:
    """What gives the seconds until Lambda ends the invocation; outside Lambda, those of the function's timeout."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is not None:
        return lambda: float(remaining()) / 1000
    end = time.monotonic() + service.settings.timeout_seconds
    return lambda: end - time.monotonic()


def _until_the_api_gives_up(event: Any, seconds_left: Callable[[], float]) -> Callable[[], float]:
    """What gives the seconds until nobody waits for a whole answer: Lambda's, or fewer if API Gateway waits for it.

    API Gateway counts from when it got the request, so a cold start is part of its time. An event from another time was
    kept and sent again, and nobody waits for its answer in the API.
    """
    began = events.gateway_began(event)
    waited = 0.0 if began is None else max(0.0, time.time() - began)
    if began is None or waited >= GATEWAY_SECONDS:
        return seconds_left
    end = time.monotonic() + GATEWAY_SECONDS - waited
    return lambda: min(seconds_left(), end - time.monotonic())


def _contents(request: HttpRequest, response: HttpResponse, answered: str) -> dict[str, str]:
    """Request and answer for the log, as text; API Gateway brings text as base64 too. Of other bytes, how many."""
    return {
        "asked": _readable(request.body, request.is_base64),
        "answered": _readable(answered, response.is_base64),
    }


def _readable(body: str, is_base64: bool) -> str:
    if not is_base64:
        return body
    import base64

    try:
        content = base64.b64decode(body)
    except ValueError:
        return body
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"{len(content)} bytes"


def respond(service: Service, event: Any, invocation: Invocation) -> tuple[HttpRequest, HttpResponse, str | None]:
    """The request that an event brings, its answer, and the error's code if the answer is an error. Never raises."""
    request = HttpRequest("", "")
    receipt = invocation.receipt
    with receipt.recording(), receipt.phase("total"):
        try:
            request = events.to_http(event, service.settings.route_prefix)
            return request, routes.dispatch(service, request, invocation), None
        except HttpError as refusal:
            error = refusal
        except ReleaseUnavailableError as unavailable:
            pause = str(max(1, math.ceil(service.settings.retry_seconds)))
            error = HttpError(503, unavailable.code, str(unavailable), headers={"Retry-After": pause})
        except Exception:
            # A defect of this code or of the model: the log has the stack trace, and the client gets the request id to
            # quote.
            service.log.failure("failed", {"request_id": invocation.request_id})
            error = HttpError(500, "internal_error", "The request failed inside the function; its log says why.")
        return request, routes.failure(service, request, error), error.code
