"""The HTTP server in front of the pool: requests become API Gateway events, and answers become HTTP responses.

It runs on the pool's event loop, on aiohttp. Pieces of a streamed answer are passed on as they arrive. A slow client
holds the function's writing, and a client that goes away ends it.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web
from multidict import CIMultiDict

from lambda_torch.emulator import payloads
from lambda_torch.emulator.answer_stream import AnswerStream, BrokenStreamError
from lambda_torch.emulator.joining import Joined, Joiner
from lambda_torch.emulator.payload_answers import GatewayResponse, MalformedAnswerError, stream_head
from lambda_torch.emulator.payloads import Payload
from lambda_torch.emulator.pool import PayloadTooLargeError, Pool
from lambda_torch.errors import EmulatorError

BODY_LIMIT = 10_485_760  # "Quotas for configuring and running a REST API": payload size, bytes
INTEGRATION_SECONDS = 29.0  # the same table: integration timeout; it includes the wait for an environment
STREAM_SECONDS = 900.0  # "Stream the integration response": the longest stream
CLIENT_GONE = 499  # as nginx writes it into its log
DISCARD_LIMIT = 10 * BODY_LIMIT  # after so many bytes of a too large body, the connection is closed


@dataclass(frozen=True)
class Handled:
    """One answered request, for the access log.

    Attributes:
        status: of the answer, or CLIENT_GONE.
        milliseconds: from its arrival to the end of its answer.
        problem: why the gateway answered instead of the function, or why a streamed answer broke; None if it is the
            function's whole answer.
    """

    method: str
    path: str
    status: int
    milliseconds: float
    problem: str | None


class _BodyTooLargeError(Exception):
    pass


class Gateway:
    """API Gateway with one function behind all of its routes. `lambda_torch.emulator.run.serving` serves it.

    Args:
        pool: takes the events.
        payload: the payload format.
        on_handled: called with each answered request.
        timeout_seconds: the longest time until an answer begins.
        streams: whether to tell the function that it may stream its answers.
        joiner: joins requests that come at the same time. None: each request is an event.
    """

    def __init__(
        self,
        pool: Pool,
        payload: Payload,
        on_handled: Callable[[Handled], None] = lambda _: None,
        timeout_seconds: float = INTEGRATION_SECONDS,
        *,
        streams: bool = False,
        joiner: Joiner | None = None,
    ) -> None:
        self._joiner = joiner
        self.thread = pool.thread
        self._pool = pool
        self._payload = payload
        self._on_handled = on_handled
        self._timeout_seconds = timeout_seconds
        self._stage_variables = payloads.STREAMING_STAGE if streams else {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request. An exception in the function is an answer too."""
        started = time.perf_counter()
        path, query = _target(request)
        status = CLIENT_GONE
        problem: str | None = "the client has gone"
        try:
            response, problem = await self._handle(request, path, query)
            status = response.status
            return response
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            self._on_handled(Handled(request.method, path, status, milliseconds, problem))

    async def _handle(self, request: web.BaseRequest, path: str, query: str) -> tuple[web.StreamResponse, str | None]:
        request_id = str(uuid.uuid4())
        answer, problem = await self._answer(request, path, query, request_id)
        if isinstance(answer, AnswerStream):
            return await self._stream(request, answer, request_id)
        return self._response(answer, request_id), problem

    def _response(self, answer: GatewayResponse, request_id: str) -> web.Response:
        headers = CIMultiDict(answer.headers)
        headers.add(self._payload.request_id_header, request_id)
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    async def _answer(
        self, request: web.BaseRequest, path: str, query: str, request_id: str
    ) -> tuple[GatewayResponse | AnswerStream, str | None]:
        payload = self._payload
        try:
            body = await _body(request)
            order = self._gateway_request(request, path, query, body, request_id)
            async with asyncio.timeout(self._timeout_seconds):
                outcome = await self._ask(order)
        except _BodyTooLargeError:
            return payload.refusal(payload.too_large), f"the body is larger than {BODY_LIMIT} bytes"
        except PayloadTooLargeError as error:
            return payload.refusal(payload.too_large), str(error)
        except EmulatorError as error:
            return payload.refusal(payload.failed), str(error)
        except TimeoutError:
            return payload.refusal(payload.timed_out), f"no answer within {self._timeout_seconds:g} s"
        if isinstance(outcome, AnswerStream | GatewayResponse):
            return outcome, None
        if outcome.failed:
            return payload.refusal(payload.failed), f"the function failed: {outcome.payload.decode(errors='replace')}"
        try:
            return payload.answer(outcome.payload), None
        except MalformedAnswerError as error:
            return payload.refusal(payload.failed), f"the function's answer is malformed: {error}"

    async def _ask(self, order: payloads.GatewayRequest) -> AnswerStream | Joined:
        joined = None if self._joiner is None else await self._joiner.answer(order)
        if joined is not None:
            return joined
        return await self._pool.answer(json.dumps(self._payload.event(order)).encode())

    async def _stream(
        self, request: web.BaseRequest, stream: AnswerStream, request_id: str
    ) -> tuple[web.StreamResponse, str | None]:
        """Pass a streamed answer on. If it breaks after its beginning, the connection ends without the last chunk."""
        payload = self._payload
        try:
            head = stream_head(await stream.read_prelude(), stream.content_type, has_prelude=stream.has_prelude)
        except (BrokenStreamError, MalformedAnswerError) as error:
            stream.close()
            problem = f"the beginning of the function's streamed answer is malformed: {error}"
            return self._response(payload.refusal(payload.failed), request_id), problem
        except BaseException:  # the client has gone
            stream.close()
            raise
        response = web.StreamResponse(status=head.status, headers=CIMultiDict(head.headers))
        response.headers.add(payload.request_id_header, request_id)
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                await response.prepare(request)
                while piece := await stream.piece():
                    if request.method != "HEAD":
                        await response.write(piece)
                await response.write_eof()
        except (BrokenStreamError, TimeoutError) as error:
            if request.transport is not None:
                request.transport.close()
            return response, f"the streamed answer broke: {error or 'it took too long'}"
        except ConnectionError:
            return response, "the client has gone"
        finally:
            stream.close()
        return response, None

    def _gateway_request(
        self, request: web.BaseRequest, path: str, query: str, body: bytes, request_id: str
    ) -> payloads.GatewayRequest:
        transport: Any = request.transport
        port = transport.get_extra_info("sockname")[1] if transport is not None else 0
        return payloads.GatewayRequest(
            method=request.method,
            path=path,
            query=query,
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
            body=body,
            source_ip=request.remote or "127.0.0.1",
            protocol=f"HTTP/{request.version.major}.{request.version.minor}",
            port=port,
            request_id=request_id,
            stage_variables=self._stage_variables,
        )


def _target(request: web.BaseRequest) -> tuple[str, str]:
    """The path, decoded, and the query string as it came."""
    target = request.raw_path
    if not target.startswith("/"):  # a proxy's request line has the whole URL
        parts = urlsplit(target)
        return unquote(parts.path) or "/", parts.query
    path, _, query = target.partition("?")
    return unquote(path), query.partition("#")[0]


async def _body(request: web.BaseRequest) -> bytes:
    """Read the body. A refused one is read too: a client that still writes may lose the answer."""
    if not request.body_exists:
        return b""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size <= BODY_LIMIT:
            parts.append(part)
        elif size > DISCARD_LIMIT:
            break
    if size > BODY_LIMIT:
        raise _BodyTooLargeError
    return b"".join(parts)
