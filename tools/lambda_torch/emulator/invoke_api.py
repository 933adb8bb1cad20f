"""Lambda's Invoke API in front of the pool, for `lambda-torch invoke`, boto3 and `aws lambda invoke --endpoint-url`.

There is one function behind it, which answers for every function name. Source: "Invoke" in the Lambda API reference.
"""

import json
import re
import uuid
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from lambda_torch.emulator.environment import PAYLOAD_LIMIT, InvokeResult
from lambda_torch.emulator.pool import PayloadTooLargeError, Pool
from lambda_torch.errors import EmulatorError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

IDENTITY_PATH = "/lambda-torch"
_INVOKE = re.compile(r"/2015-03-31/functions/[^/]+/invocations")


class InvokeApi:
    """The Invoke API as a WSGI application.

    Args:
        pool: takes the events.
        identity: the answer to `GET /lambda-torch`. It shows whether a note is about this run or about an earlier one.
        timeout_seconds: the longest time for an answer.
    """

    def __init__(self, pool: Pool, identity: str, timeout_seconds: float) -> None:
        self._pool = pool
        self._identity = identity
        self._timeout_seconds = timeout_seconds

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one invocation."""
        request = Request(environ)
        request.max_content_length = PAYLOAD_LIMIT
        if request.path == IDENTITY_PATH and request.method == "GET":
            response = Response(self._identity, content_type="text/plain")
        elif not _INVOKE.fullmatch(request.path) or request.method != "POST":
            response = _error(
                HTTPStatus.NOT_FOUND, "ResourceNotFoundException", "POST an event to a function's invocations."
            )
        else:
            response = self._invoke(request)
        response.headers.setdefault("x-amzn-RequestId", str(uuid.uuid4()))
        return response(environ, start_response)

    def _invoke(self, request: Request) -> Response:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind not in ("RequestResponse", "Event", "DryRun"):
            return _error(HTTPStatus.BAD_REQUEST, "InvalidParameterValueException", f"Unknown invocation type: {kind}")
        try:
            event = request.get_data(cache=False) or b"{}"
            json.loads(event)
            if kind == "DryRun":
                return Response(status=HTTPStatus.NO_CONTENT)
            result = self._pool.submit(event, request.headers.get("X-Amz-Client-Context"))
        except (RequestEntityTooLarge, PayloadTooLargeError):
            message = f"Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestTooLargeException", message)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            return _error(HTTPStatus.BAD_REQUEST, "InvalidRequestContentException", message)
        except EmulatorError as error:
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "ServiceException", str(error))
        if kind == "Event":
            return Response(status=HTTPStatus.ACCEPTED)
        return self._answer(result)

    def _answer(self, result: "Future[InvokeResult]") -> Response:
        try:
            outcome = result.result(self._timeout_seconds)
        except (TimeoutError, CancelledError):
            result.cancel()
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "ServiceException", "The function did not answer.")
        response = Response(outcome.payload, HTTPStatus.OK, {"X-Amz-Executed-Version": "$LATEST"})
        response.content_type = "application/json"
        if outcome.failed:
            response.headers["X-Amz-Function-Error"] = "Unhandled"
        return response


def _error(status: HTTPStatus, kind: str, message: str) -> Response:
    """An error as AWS's SDKs read it."""
    body = json.dumps({"Type": "User" if status < 500 else "Service", "message": message})
    return Response(body, status, {"x-amzn-ErrorType": kind}, content_type="application/json")
