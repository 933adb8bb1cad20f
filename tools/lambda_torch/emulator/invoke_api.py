"""Lambda's Invoke API in front of the pool, for `lambda-torch invoke`, boto3 and `aws lambda invoke --endpoint-url`.

There is one function behind it, which answers for every function name. Source: "Invoke" in the Lambda API reference.
"""

import asyncio
import json
import re
import uuid
from http import HTTPStatus

from aiohttp import web

from lambda_torch.emulator.function import PAYLOAD_LIMIT
from lambda_torch.emulator.pool import PayloadTooLargeError, Pool
from lambda_torch.errors import EmulatorError

IDENTITY_PATH = "/lambda-torch"
_INVOKE = re.compile(r"/2015-03-31/functions/[^/]+/invocations")


class InvokeApi:
    """The Invoke API. `lambda_torch.emulator.run.serving` serves it.

    Args:
        pool: takes the events.
        identity: the answer to `GET /lambda-torch`. It shows whether a note is about this run or about an earlier one.
        timeout_seconds: the longest time for an answer.
    """

    def __init__(self, pool: Pool, identity: str, timeout_seconds: float) -> None:
        self.thread = pool.thread
        self._pool = pool
        self._identity = identity
        self._timeout_seconds = timeout_seconds

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one invocation."""
        if request.path == IDENTITY_PATH and request.method == "GET":
            response = web.Response(text=self._identity)
        elif not _INVOKE.fullmatch(request.path) or request.method != "POST":
            response = _error(
                HTTPStatus.NOT_FOUND, "ResourceNotFoundException", "POST an event to a function's invocations."
            )
        else:
            response = await self._invoke(request)
        response.headers.setdefault("x-amzn-RequestId", str(uuid.uuid4()))
        return response

    async def _invoke(self, request: web.BaseRequest) -> web.Response:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind not in ("RequestResponse", "Event", "DryRun"):
            return _error(HTTPStatus.BAD_REQUEST, "InvalidParameterValueException", f"Unknown invocation type: {kind}")
        context = request.headers.get("X-Amz-Client-Context")
        try:
            event = await _event(request) or b"{}"
            json.loads(event)
            if kind == "DryRun":
                return web.Response(status=HTTPStatus.NO_CONTENT)
            if kind == "Event":
                self._pool.submit(event, context)
                return web.Response(status=HTTPStatus.ACCEPTED)
            async with asyncio.timeout(self._timeout_seconds):
                outcome = await self._pool.result(event, context)
        except PayloadTooLargeError:
            message = f"Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestTooLargeException", message)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            return _error(HTTPStatus.BAD_REQUEST, "InvalidRequestContentException", message)
        except EmulatorError as error:
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "ServiceException", str(error))
        except TimeoutError:
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "ServiceException", "The function did not answer.")
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": "$LATEST"}
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        return web.Response(body=outcome.payload, headers=headers)


async def _event(request: web.BaseRequest) -> bytes:
    """Read the event. A too large one is read and dropped, so that the client can read its refusal."""
    body = bytearray()
    async for part in request.content.iter_any():
        if len(body) <= PAYLOAD_LIMIT:
            body += part
    if len(body) > PAYLOAD_LIMIT:
        raise PayloadTooLargeError
    return bytes(body)


def _error(status: HTTPStatus, kind: str, message: str) -> web.Response:
    """An error as AWS's SDKs read it."""
    body = json.dumps({"Type": "User" if status < 500 else "Service", "message": message})
    return web.Response(text=body, status=status, headers={"x-amzn-ErrorType": kind}, content_type="application/json")
