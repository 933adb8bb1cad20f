"""What answers each of OpenAI's routes. The model's name for clients is its task: it stays the same when a release changes."""

from typing import Any

from serving.http import events, responses, validation
from serving.http.events import HttpRequest
from serving.http.openai import completions, refusals, vectors
from serving.http.openai.completions import Completion
from serving.http.openai.parameters import ChatCompletionRequest, EmbeddingsRequest
from serving.http.responses import HttpResponse
from serving.http.service import Invocation, Service
from serving.telemetry import receipts


def chat_completions(service: Service, request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """`POST /v1/chat/completions`: the answer at once, or as events."""
    name = name_of(service)
    with receipts.phase("parse"):
        text = events.body_of(request, service.settings.max_body_bytes)
        asked = validation.parse(ChatCompletionRequest, text)
        refusals.check_name(asked.model, name)
        parsed = completions.model_request(asked, service.model.Request)
    with service.follower.use(lambda: events.canary_key(request, text)) as release:
        model: Any = release.model
        validation.check(model, parsed)
        completion = Completion(name)
        completion.release = release.version
        with receipts.phase("predict"):
            body = responses.json_text(completion.whole(model.stream(parsed)))
    responses.check_size(body)
    return responses.success(body, release.version)


def embeddings(service: Service, request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """`POST /v1/embeddings`: a vector for each text."""
    name = name_of(service)
    with receipts.phase("parse"):
        text = events.body_of(request, service.settings.max_body_bytes)
        asked = validation.parse(EmbeddingsRequest, text)
        refusals.check_name(asked.model, name)
        parsed = vectors.model_request(asked, service.model.Request)
    with service.follower.use(lambda: events.canary_key(request, text)) as release:
        model: Any = release.model
        validation.check(model, parsed)
        with receipts.phase("predict"):
            (response,) = model.predict([parsed])
            tokens = model.count_tokens(parsed)
    body = responses.json_text(vectors.answer(asked, response.root, tokens, name))
    responses.check_size(body)
    return responses.success(body, release.version)


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
