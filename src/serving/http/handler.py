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
    answer["headers"].update(service.cors.headers(request.header("origin")))
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
            **({"asked": request.body, "answered": response.body} if service.settings.log_requests else {}),
        },
        entry.metrics,
    )
    return answer


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
        return request, routes.failure(service, request, error), error.code
