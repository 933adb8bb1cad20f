"""The HTTP server in front of the pool: requests become API Gateway events, and answers become HTTP responses.

It is a WSGI application. Werkzeug's own server runs it with one thread for each request. The threads only wait for the
pool.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Request as WsgiRequest
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from lambda_torch.emulator import payloads
from lambda_torch.emulator.payload_answers import GatewayResponse, MalformedAnswerError
from lambda_torch.emulator.payloads import Payload
from lambda_torch.emulator.pool import PayloadTooLargeError, Pool
from lambda_torch.errors import EmulatorError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BODY_LIMIT = 10_485_760  # "Quotas for configuring and running a REST API": payload size, bytes
INTEGRATION_SECONDS = 29.0  # the same table: integration timeout; it includes the wait for an environment
DISCARD_LIMIT = 10 * BODY_LIMIT  # after so many bytes of a too large body, the connection is closed
_CHUNK = 65_536

_RAW_HEADERS = "lambda_torch.headers"


@dataclass(frozen=True)
class Handled:
    """One answered request, for the access log.

    Attributes:
        milliseconds: from its arrival to its answer.
        problem: why the gateway answered instead of the function; None if the function answered.
    """

    method: str
    path: str
    status: int
    milliseconds: float
    problem: str | None


class Gateway:
    """API Gateway with one function behind all of its routes, as a WSGI application.

    Args:
        pool: takes the events.
        payload: the payload format.
        on_handled: called with each answered request.
        timeout_seconds: the longest time for a request.
    """

    def __init__(
        self,
        pool: Pool,
        payload: Payload,
        on_handled: Callable[[Handled], None] = lambda _: None,
        timeout_seconds: float = INTEGRATION_SECONDS,
    ) -> None:
        self._pool = pool
        self._payload = payload
        self._on_handled = on_handled
        self._timeout_seconds = timeout_seconds

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one HTTP request. An exception in the function is an answer too."""
        started = time.perf_counter()
        request_id = str(uuid.uuid4())
        wsgi = WsgiRequest(environ)
        wsgi.max_content_length = BODY_LIMIT
        answer, problem = self._answer(wsgi, request_id)
        response = Response(answer.body, answer.status, list(answer.headers))
        response.headers.add(self._payload.request_id_header, request_id)
        milliseconds = (time.perf_counter() - started) * 1000
        self._on_handled(Handled(wsgi.method, wsgi.path, answer.status, milliseconds, problem))
        return response(environ, start_response)

    def _answer(self, wsgi: WsgiRequest, request_id: str) -> tuple[GatewayResponse, str | None]:
        payload = self._payload
        try:
            event = json.dumps(payload.event(_request(wsgi, request_id))).encode()
            result = self._pool.submit(event)
        except RequestEntityTooLarge:
            _discard_body(wsgi)
            return payload.refusal(payload.too_large), f"the body is larger than {BODY_LIMIT} bytes"
        except PayloadTooLargeError as error:
            return payload.refusal(payload.too_large), str(error)
        except EmulatorError as error:
            return payload.refusal(payload.failed), str(error)
        try:
            outcome = result.result(self._timeout_seconds)
        except TimeoutError:
            result.cancel()  # no client waits any more, so no environment shall take it
            return payload.refusal(payload.timed_out), f"no answer within {self._timeout_seconds:g} s"
        except CancelledError:
            return payload.refusal(payload.failed), "the run is ending"
        if outcome.failed:
            return payload.refusal(payload.failed), f"the function failed: {outcome.payload.decode(errors='replace')}"
        try:
            return payload.answer(outcome.payload), None
        except MalformedAnswerError as error:
            return payload.refusal(payload.failed), f"the function's answer is malformed: {error}"


def _discard_body(wsgi: WsgiRequest) -> None:
    """Read a refused body. A connection that is closed with unread bytes is reset, and the client may lose the answer."""
    body = get_input_stream(wsgi.environ)
    for _ in range(DISCARD_LIMIT // _CHUNK):
        if not body.read(_CHUNK):
            return


def _request(wsgi: WsgiRequest, request_id: str) -> payloads.GatewayRequest:
    environ = wsgi.environ
    return payloads.GatewayRequest(
        method=wsgi.method,
        path=wsgi.path,
        query=wsgi.query_string.decode("latin-1"),
        headers=environ.get(_RAW_HEADERS) or list(wsgi.headers),
        body=wsgi.get_data(cache=False),
        source_ip=wsgi.remote_addr or "127.0.0.1",
        protocol=environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
        port=int(environ.get("SERVER_PORT", 0)),
        request_id=request_id,
    )


class RequestHandler(WSGIRequestHandler):
    """Werkzeug's handler, but it keeps the headers as they came (WSGI joins and renames them), and logs nothing."""

    def make_environ(self) -> "WSGIEnvironment":
        """The WSGI environment, with the original headers as a list."""
        environ = super().make_environ()
        environ[_RAW_HEADERS] = list(self.headers.items())
        return environ

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing. The applications report their answers themselves."""
