"""From an HTTP event to its answer, whatever happens on the way, and to its line in the log."""

import math
from typing import Any

from serving.errors import HttpError, ReleaseUnavailableError
from serving.http import events, responses, routes
from serving.http.events import HttpRequest
from serving.http.responses import HttpResponse
from serving.http.service import Invocation, Service
from serving.telemetry.receipts import Receipt


def handle(service: Service, event: Any, context: Any) -> dict[str, Any]:
    """Answer an HTTP event in the proxy form, and log the request. Never raises.

    Args:
        event: of any HTTP kind of `serving.http.events`.
        context: Lambda's context of the call; None outside Lambda.
    """
    invocation = Invocation(Receipt(), getattr(context, "aws_request_id", None))
    request, response, code = respond(service, event, invocation)
    entry = service.request_log.entry(invocation.receipt, code, service.slot.age_seconds())
    answer = responses.proxy_form(response)
    cors = service.cors.headers(request.header("origin"))
    varies = [each["Vary"] for each in (response.headers, cors) if "Vary" in each]
    answer["headers"].update(cors)
    if varies:
        answer["headers"]["Vary"] = ", ".join(varies)
    answer["headers"]["Server-Timing"] = entry.server_timing
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
            **(_contents(request, response) if service.settings.log_requests else {}),
        },
        entry.metrics,
    )
    return answer


def _contents(request: HttpRequest, response: HttpResponse) -> dict[str, str]:
    """Request and answer for the log, as text; API Gateway brings text as base64 too. Of other bytes, how many."""
    return {
        "asked": _readable(request.body, request.is_base64),
        "answered": _readable(response.body, response.is_base64),
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
            request = events.to_http(event)
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
        return request, responses.failure(error), error.code
