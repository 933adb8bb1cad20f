"""The routes of the API: one table, `ROUTES`, and the function of each route.

Dispatch, the `Allow` header, answers to preflights and the paths of the OpenAPI document are made from this table; a
test compares `template.yaml` with it. Powertools' event handler has routes too, and much more that a start would load:
`python -m benchmarks.imports` measures it.
"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from serving import response_json
from serving.contract import ModelPackage, ServedModel
from serving.errors import HttpError, ReleaseUnavailableError
from serving.http import events, responses, validation
from serving.http.events import HttpRequest
from serving.http.responses import HttpResponse
from serving.http.service import Invocation, Route, Service
from serving.releases.slot import LoadedRelease
from serving.telemetry import receipts

if TYPE_CHECKING:
    from serving.http.pages import Page


def dispatch(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """Let the request's route answer it. OPTIONS of every path is a preflight.

    Raises:
        HttpError: 404 `no_such_route`, 405 `method_not_allowed`, or what the route raises.
    """
    route = _ROUTES.get((request.method, request.path))
    if route is not None and _is_of(route, service.model):
        return route.answer(service, request, invocation)
    known = routes_of(service.model)
    methods = [route.method for route in known if route.path == request.path]
    if not methods:
        raise HttpError(
            404, "no_such_route", "There is no such route.", {"routes": sorted({route.path for route in known})}
        )
    allowed = [*methods, "OPTIONS"]
    if request.method == "OPTIONS":
        return HttpResponse(204, headers=service.cors.preflight(allowed))
    message = f"{request.path} takes {' and '.join(methods)}."
    raise HttpError(405, "method_not_allowed", message, {"allowed": allowed}, {"Allow": ", ".join(allowed)})


# Types that mean JSON. `curl -d` says the second, whatever it sends, and many clients say none.
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "text/plain", "")


def routes_of(package: ModelPackage) -> tuple[Route, ...]:
    """The rows of the table for this model: some are only for models of a task."""
    return tuple(route for route in ROUTES if _is_of(route, package))


def _is_of(route: Route, package: ModelPackage) -> bool:
    return not route.tasks or getattr(package, "TASK", None) in route.tasks


def failure(service: Service, request: HttpRequest, error: HttpError) -> HttpResponse:
    """The answer that an error stands for, in the form that the route's clients read."""
    route = _ROUTES.get((request.method, request.path))
    if route is None or not route.tasks or not _is_of(route, service.model):
        return responses.failure(error)
    from serving.http.openai import refusals

    return refusals.failure(error)


def predict(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """One request of the model, and its response; or a list of them, each answered or refused on its own."""
    kind, parsed, items = service.model.Request, None, list[str]()
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    with receipts.phase("parse"):
        if media_type not in JSON_TYPES and not media_type.endswith("+json"):
            from serving.http import bodies  # few clients send files, and few models take them

            body = bodies.read(kind, request, media_type, service.settings.max_body_bytes)
            text, parsed = request.body, validation.parse(kind, body.text, service.context(body.parts))
        else:
            text = events.body_of(request, service.settings.max_body_bytes)
            if validation.is_list(text) and validation.takes_lists(kind):
                from serving.http import batch  # a request alone does not need it, so a cold start does not wait for it

                items = batch.split(text, service.settings.max_batch_items)
            else:
                parsed = validation.parse(kind, text, service.context())
    if parsed is not None and invocation.reader is not None and _may_ask_for_pieces(request, parsed):
        from serving.http import streaming

        framing = streaming.framing_for(request, parsed)
        if framing is not None:
            start = streaming.of_model(parsed)
            found = streaming.answer(service, invocation, lambda: events.canary_key(request, text), framing, start)
            if found is not None:
                return found
    with service.follower.use(lambda: events.canary_key(request, text)) as release:
        if parsed is None:
            answer = responses.success(_predict_several(service, items, release.model, invocation), release.version)
        else:
            validation.check(release.model, parsed)
            with receipts.phase("predict"):
                response = _predict_one(release, parsed, invocation)
            answer = _answer(service, request, response, release.version)
    responses.check_size(answer.body)
    return answer


def _answer(service: Service, request: HttpRequest, response: Any, version: str) -> HttpResponse:
    accept = request.header("accept")
    # Without these types no answer is a file. And `*/*` is what clients send that did not choose.
    if accept not in (None, "*/*") and "serving.types" in sys.modules:
        from serving.http import files

        file = files.wanted(service.model.Response, response, str(accept), version)
        if file is not None:
            return file
    return responses.success(response_json.to_json(response), version)


def _predict_one(release: LoadedRelease, parsed: BaseModel, invocation: Invocation) -> BaseModel:
    """The model's response. A `predict` that takes a deadline gets the time by which the answer must be there."""
    response: BaseModel
    if release.takes_deadline and invocation.reader is not None:
        predict: Any = release.model.predict
        (response,) = predict([parsed], deadline=invocation.reader.whole_seconds)
    else:
        (response,) = release.model.predict([parsed])
    return response


def _may_ask_for_pieces(request: HttpRequest, parsed: BaseModel) -> bool:
    """Whether the answer may have to come in pieces. `serving.http.streaming` decides; most requests do not need it."""
    accept = request.header("accept") or ""
    return "event-stream" in accept or "ndjson" in accept or getattr(parsed, "stream", False) is True


def _predict_several(service: Service, items: list[str], model: ServedModel, invocation: Invocation) -> str:
    from serving.http import batch

    outcomes = batch.answer(items, service.model.Request, model, service.context())
    # The first defect counts: an alarm compares defects with invocations, and a list is one of those.
    metrics = service.metrics.embedded({"Errors": 1})
    for index, outcome in enumerate(outcomes):
        if outcome.defect is not None:
            facts = {"request_id": invocation.request_id, "index": index, "code": "internal_error"}
            service.log.failure("item failed", facts, outcome.defect, metrics)
            metrics = {}
    return f"[{','.join(outcome.text for outcome in outcomes)}]"


def health(service: Service, _request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """Whether a release serves, which one, and since when."""
    release = service.follower.peek()
    body = {
        "status": "ok",
        "release": release.version,
        "since": release.since.isoformat(timespec="seconds"),
        "channel": service.follower.channel,
        "refresh": asdict(service.follower.counters),
    }
    return responses.success(responses.json_text(body), release.version)


def room_for_upload(service: Service, _request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """An address where the client may send a file that is too large for a body."""
    from serving import uploads
    from serving.types.finding import content_fields

    if not content_fields(service.model.Request):
        raise HttpError(404, "no_uploads", "The model's request has no field that holds a file, so it takes no upload.")
    return responses.success(responses.json_text(uploads.offer(service.settings)), None)


# What the rest need is imported when a client first asks for one of them, so a cold start that predicts does not
# load it.


def openapi_document(service: Service, _request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """The API as an OpenAPI document. Where a release serves, the document has what only the release knows."""
    from serving.http import openapi

    try:
        release = service.follower.peek()
    except ReleaseUnavailableError:
        release = None
    package, model = service.model, release.model if release else None
    routes = routes_of(package)
    stream = getattr(package.Model, "stream", None)
    limit = service.settings.max_batch_items
    document = openapi.document(package.Request, package.Response, model, limit, routes, stream)
    return responses.success(responses.json_text(document), release.version if release else None)


def front_page(_service: Service, request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """The page to try the model."""
    from serving.http import pages

    return _page(pages.front(), request)


def docs_page(_service: Service, request: HttpRequest, _invocation: Invocation) -> HttpResponse:
    """The API's document as a page."""
    from serving.http import pages

    return _page(pages.docs(), request)


def _page(page: "Page", request: HttpRequest) -> HttpResponse:
    known = page.is_known(request.header("if-none-match"))
    return HttpResponse(304 if known else 200, "" if known else page.body, page.headers, "text/html; charset=utf-8")


def chat_completions(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """OpenAI's chat completions, at once or as events."""
    from serving.http.openai import endpoints

    return endpoints.chat_completions(service, request, invocation)


def embeddings(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """OpenAI's embeddings."""
    from serving.http.openai import endpoints

    return endpoints.embeddings(service, request, invocation)


def models(service: Service, request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """OpenAI's list of models."""
    from serving.http.openai import endpoints

    return endpoints.models(service, request, invocation)


ROUTES = (
    Route("POST", "/predict", predict, "predict", "Ask the model", preflight=True),
    Route("GET", "/health", health, "health", "Which release answers", preflight=True),
    Route("GET", "/openapi.json", openapi_document, "openapi", "This document"),
    Route("GET", "/docs", docs_page, "docs", "This document as a page"),
    Route("GET", "/", front_page, "page", "A page to try the model"),
    Route(
        "POST", "/uploads", room_for_upload, "upload", "Room for a file that is too large for a body", preflight=True
    ),
    Route("POST", "/", predict, "predictAtRoot", "Ask the model", preflight=True),
    Route(
        "POST", "/v1/chat/completions", chat_completions, "chatCompletions", "Chat, by OpenAI's API", True, ("chat",)
    ),
    Route("POST", "/v1/embeddings", embeddings, "embeddings", "Embed texts, by OpenAI's API", True, ("embeddings",)),
    Route("GET", "/v1/models", models, "models", "The model, by OpenAI's API", True, ("chat", "embeddings")),
)
_ROUTES = {(route.method, route.path): route for route in ROUTES}
