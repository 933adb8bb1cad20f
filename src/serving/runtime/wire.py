"""A streamed answer on the wire of Lambda's Runtime API.

"Building a custom runtime for AWS Lambda", "Implementing response streaming in a custom runtime": the answer is posted
in chunks (RFC 9112, section 7.1), an error in the middle goes into trailers, and the connection is closed afterwards.
The form of the body is that of "Set up a Lambda proxy integration with payload response streaming in API Gateway".
Other runtimes of AWS do the same, but none of them says what happens when the reader is gone.
"""

import base64
import json
import select
import socket
import traceback
from http.client import HTTPException, HTTPResponse

from serving.runtime.answer import StreamedAnswer

# Between the prelude and the payload.
DELIMITER = bytes(8)
CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
INVOCATION_ID = "Lambda-Runtime-Invocation-Id"
LAST_CHUNK = b"0\r\n"
# How long one step may take at least, even if no time is left: the Runtime API is in the same sandbox.
LEAST_SECONDS = 0.2


class StreamRefusedError(Exception):
    """The Runtime API did not take the answer. The message says what it said."""


class ReaderGoneError(Exception):
    """Nobody reads the answer to its end. `reason` is `client_gone` or `client_slow`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def post(api: str, request_id: str, answer: StreamedAnswer, invocation_id: str | None = None) -> None:
    """Send an answer, piece by piece as they are made, and close its pieces whatever happens.

    Args:
        api: host and port of the Runtime API.
        request_id: of the invocation that this is the answer to.
        answer: the answer.
        invocation_id: what the Runtime API wants to have back, if it gave one.

    Raises:
        ReaderGoneError: the Runtime API closed the connection, or took too long to read.
        StreamRefusedError: the Runtime API answered with an error.
        BaseException: what the pieces raised; the reader got its type and message in the trailers.
    """
    reason = "error"
    try:
        with socket.create_connection(_address(api), timeout=_seconds(answer)) as connection:
            # A piece goes out at once, also if it is small.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _send(connection, answer, _head(api, request_id, invocation_id) + _chunk(answer.prelude + DELIMITER))
            try:
                for piece in answer.pieces:
                    _send(connection, answer, _chunk(piece))
            except (ReaderGoneError, OSError):
                raise
            except BaseException as error:
                _send(connection, answer, LAST_CHUNK + _trailers(error))
                _read_answer(connection, answer)
                raise
            _send(connection, answer, LAST_CHUNK + b"\r\n")
            _read_answer(connection, answer)
    except ReaderGoneError as gone:
        reason = gone.reason
        raise
    finally:
        answer.pieces.close(reason)


def _head(api: str, request_id: str, invocation_id: str | None) -> bytes:
    lines = [
        f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1",
        f"Host: {api}",
        f"Content-Type: {CONTENT_TYPE}",
        "Lambda-Runtime-Function-Response-Mode: streaming",
        "Transfer-Encoding: chunked",
        f"Trailer: {ERROR_TYPE}, {ERROR_BODY}",
        "Connection: close",
    ]
    if invocation_id:
        lines.append(f"{INVOCATION_ID}: {invocation_id}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _chunk(content: bytes) -> bytes:
    """One chunk. An empty one would end the body, so it is left out."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""


def _trailers(error: BaseException) -> bytes:
    kind = f"Runtime.{type(error).__name__}"
    body = {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    return f"{ERROR_TYPE}: {kind}\r\n{ERROR_BODY}: {encoded}\r\n\r\n".encode()


def _send(connection: socket.socket, answer: StreamedAnswer, content: bytes) -> None:
    if not content:
        return
    # The Runtime API says nothing before the end of the answer, unless it will not read on.
    if _has_input(connection):
        raise ReaderGoneError("client_gone")
    connection.settimeout(_seconds(answer))
    try:
        connection.sendall(content)
    except TimeoutError:
        raise ReaderGoneError("client_slow") from None
    except OSError:
        raise ReaderGoneError("client_gone") from None


def _has_input(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _read_answer(connection: socket.socket, answer: StreamedAnswer) -> None:
    connection.settimeout(_seconds(answer))
    with HTTPResponse(connection, method="POST") as response:
        try:
            response.begin()
            said = response.read(1000)
        except TimeoutError:
            raise ReaderGoneError("client_slow") from None
        except (OSError, HTTPException) as error:
            raise StreamRefusedError(f"the Runtime API did not answer: {error}") from error
    if not 200 <= response.status < 300:
        raise StreamRefusedError(f"the Runtime API answered {response.status}: {said.decode(errors='replace')}")


def _seconds(answer: StreamedAnswer) -> float:
    return max(LEAST_SECONDS, answer.seconds_left() - LEAST_SECONDS)


def _address(api: str) -> tuple[str, int]:
    host, _, port = api.rpartition(":")
    return (host.strip("[]"), int(port)) if host else (api, 80)
