"""What answers each of OpenAI's routes. The model's name for clients is its task: it stays the same when a release changes."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from serving.http import events, responses, streaming, validation
from serving.http.events import HttpRequest
from serving.http.openai import completions, refusals, vectors
from serving.http.openai.completions import ChatAnswer
from serving.http.openai.parameters import ChatCompletionRequest, EmbeddingsRequest
from serving.http.responses import HttpResponse
from serving.http.service import Invocation, Service
from serving.releases.slot import LoadedRelease
from serving.telemetry import receipts

A = TypeVar("A", ChatCompletionRequest, EmbeddingsRequest)


def chat_completions(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """`POST /v1/chat/completions`: the answer at once, or as events."""
    text, asked, parsed = _read(service, request, ChatCompletionRequest, completions.model_request)
    reply = ChatAnswer(asked.model, with_usage=asked.wants_usage)
    begin = streaming.of_model(parsed)

    def start(release: LoadedRelease, seconds_left: Callable[[], float]) -> Iterator[Any]:
        reply.release = release.version
        pieces = begin(release, seconds_left)
        if pieces is None:
            raise TypeError("TASK is 'chat', but the model has no method stream")
        return pieces

    def key() -> bytes:
        return events.canary_key(request, text)

    if asked.stream and invocation.reader is not None:
        # The reply is the framing: its events are those that OpenAI's clients read.
        streamed = streaming.answer(service, invocation, key, reply, start)
        assert streamed is not None
        return streamed
    with service.follower.use(key) as release, receipts.phase("predict"):
        try:
            body = responses.json_text(reply.whole(start(release, _seconds_left(invocation))))
        except PydanticCustomError as refusal:
            raise validation.refusal(refusal) from None
    responses.check_size(body)
    return responses.success(body, release.version)


def _seconds_left(invocation: Invocation) -> Callable[[], float]:
    """What tells a model how long it may write a whole answer. In the queue, say, it is never told to hurry."""
    reader = invocation.reader
    if reader is None:
        return lambda: math.inf
    return reader.whole_seconds


def embeddings(service: Service, request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """`POST /v1/embeddings`: a vector for each text."""
    text, asked, parsed = _read(service, request, EmbeddingsRequest, vectors.model_request)
    with service.follower.use(lambda: events.canary_key(request, text)) as release:
        model: Any = release.model
        validation.check(model, parsed)
        with receipts.phase("predict"):
            (response,) = model.predict([parsed])
            tokens = model.count_tokens(parsed)
    body = responses.json_text(vectors.answer(asked, response.root, tokens, asked.model))
    responses.check_size(body)
    return responses.success(body, release.version)


def _read(
    service: Service, request: HttpRequest, kind: type[A], to_model: Callable[[A, type[BaseModel]], BaseModel]
) -> tuple[str, A, BaseModel]:
    """The body's text, OpenAI's parameters in it, and the model's own request for them.

    Raises:
        HttpError: 404 for the name of another model, or what is wrong with the request.
    """
    with receipts.phase("parse"):
        text = events.body_of(request, service.settings.max_body_bytes)
        asked = validation.parse(kind, text)
        refusals.check_name(asked.model, name_of(service))
        return text, asked, to_model(asked, service.model.Request)


def models(service: Service, _request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """`GET /v1/models`: the one model."""
    release = service.follower.peek()
    entry = {
        "id": name_of(service),
        "object": "model",
        "created": int(release.since.timestamp()),
        "owned_by": "lambda-torch",
    }
    return responses.success(responses.json_text({"object": "list", "data": [entry]}), release.version)


def name_of(service: Service) -> str:
    """The model's name for clients: its task. These routes are only for packages that have one."""
    return str(service.model.TASK)  # type: ignore[attr-defined]
