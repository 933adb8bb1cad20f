"""Where Lambda's runtime client learns to send a handler's answer in pieces.

The managed Python runtime has no code for streams. Its loop takes the next event, calls the handler, and gives what it
returned to `post_invocation_result` of its client. This module puts one function in that place: for a `StreamedAnswer`
it sends the stream, and for anything else it calls the client's own. The rest of the loop stays AWS's: SnapStart's
hooks, the frames of the log, the trace id, and how errors are reported.

The client is AWS's and changes without notice, so everything that this relies on is looked at first. Where something is
different, nothing is changed, and answers are sent whole.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

from serving.runtime import wire
from serving.runtime.answer import StreamedAnswer
from serving.settings import Settings
from serving.telemetry.log import Log

# The runtime client's module, its class, and the method with the parameters that this relies on.
CLIENT = "awslambdaric.lambda_runtime_client"
CLASS = "LambdaRuntimeClient"
METHOD = "post_invocation_result"
PARAMETERS = ("self", "invoke_id", "result_data")

Post = Callable[..., None]


def prepared(settings: Settings, log: Log, streams: frozenset[str]) -> frozenset[str]:
    """Where answers can be sent in pieces: `streams`, or nowhere, with the reason in the log."""
    reason = "SAM's emulator cannot stream" if settings.sam_local else install(settings.runtime_api, log)
    if reason is None:
        return streams
    log.write("WARNING", "answers are not streamed", {"reason": reason})
    return frozenset()


def install(api: str | None, log: Log) -> str | None:
    """Have the runtime client send streams. The reason if it cannot; then nothing is changed.

    Args:
        api: host and port of the Runtime API.
        log: takes what a client did to a stream.
    """
    if api is None:
        return "there is no Runtime API: AWS_LAMBDA_RUNTIME_API is not set"
    client: Any = getattr(sys.modules.get(CLIENT), CLASS, None)
    if client is None:
        return f"the function is not run by Lambda's runtime client: {CLIENT}.{CLASS} does not exist"
    owner = next((each for each in client.__mro__ if METHOD in vars(each)), None)
    if owner is None:
        return f"Lambda's runtime client has no method {METHOD}"
    try:
        found = tuple(inspect.signature(vars(owner)[METHOD]).parameters)
        passed_on, _ = client.marshaller.marshal_response(probe := StreamedAnswer())
    except Exception as error:
        return f"Lambda's runtime client is not as expected: {type(error).__name__}: {error}"
    if found[: len(PARAMETERS)] != PARAMETERS:
        return f"{METHOD} of Lambda's runtime client takes ({', '.join(found)}) and not ({', '.join(PARAMETERS)}, ...)"
    if passed_on is not probe:
        return "Lambda's runtime client does not pass bytes on as they are"
    setattr(owner, METHOD, _streaming(vars(owner)[METHOD], found, api, log))
    return None


def _streaming(original: Post, parameters: tuple[str, ...], api: str, log: Log) -> Post:
    """`post_invocation_result`, for streams too."""

    def post_invocation_result(self: Any, invoke_id: str, result_data: Any, *more: Any, **named: Any) -> None:
        if not isinstance(result_data, StreamedAnswer):
            original(self, invoke_id, result_data, *more, **named)
            return
        given = dict(zip(parameters[len(PARAMETERS) :], more, strict=False)) | named
        try:
            wire.post(api, invoke_id, result_data, given.get("invocation_id"))
        except wire.ReaderGoneError as gone:
            log.write("INFO", "stream not read to its end", {"request_id": invoke_id, "reason": gone.reason})
        except (wire.StreamRefusedError, OSError) as error:
            log.write("ERROR", "stream not taken", {"request_id": invoke_id, "reason": str(error)})

    return post_invocation_result
