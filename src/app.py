"""The door: `lambda_handler`, the start-up before the first event, and the routes.

    POST /predict, POST /    a request of src/model as JSON, or a list of them; answers its response, or a list of responses and
                             refusals, with the release in X-Model-Version
    GET  /health             the release that is served, and since when
    GET  /openapi.json       the API's document
    GET  /, GET /docs        pages for people: to try the model, and for the document

Refusals are `{"error": {"code", "message", "details"}}`; every answer carries CORS headers.
"""

from serving.telemetry import receipts

start = receipts.Start.of_process()  # before the imports that it times

import gc

# Nothing that imports make is garbage, and looking for some takes a tenth of their CPU time.
gc.disable()

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from serving import snapshot
from serving.contract import ModelClass, ServedModel
from serving.errors import ServiceError
from serving.http import events, responses, validation
from serving.http.routes import Response, Router
from serving.releases.follower import CurrentRelease, Pace
from serving.releases.loader import Loader
from serving.releases.store import ReleaseError, ReleaseStore
from serving.settings import AwsEnvironment, Settings, limit_threads
from serving.storage import signed
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log
from serving.telemetry.receipts import Receipt
from serving.telemetry.request_log import Accounts

if TYPE_CHECKING:
    from serving.http.pages import Page

settings = Settings.from_environment()
log = Log(settings.log_level)
metrics = Metrics(settings.function_name)
accounts = Accounts(start, settings.initialization, metrics)
cors = responses.Cors(settings.cors_origins)
router = Router()

METHODS = {
    "/predict": ("POST",),
    "/": ("GET", "POST"),
    "/health": ("GET",),
    "/openapi.json": ("GET",),
    "/docs": ("GET",),
}


# A client that sends this header gets the same release each time while a canary runs; without it, equal bodies do.
CANARY_KEY = "x-canary-key"


def _open_store() -> ReleaseStore:
    if settings.bucket is None:
        raise ReleaseError("no_bucket", "The function's variable MODEL_BUCKET is not set, so it has nowhere to look.")
    objects = signed.open_objects(AwsEnvironment.from_environment())
    return ReleaseStore(objects, settings.bucket, settings.cache, settings.fetch_seconds)


def _model_classes() -> tuple[ModelClass, type[BaseModel]]:
    return Model, Request


def _open_loader(store: ReleaseStore) -> Loader:
    memory = settings.memory_mb * 1024 * 1024
    return Loader(store, _model_classes, memory, allow_programs=settings.allow_programs)


def _report(event: str, facts: dict[str, Any]) -> None:
    level = "INFO" if event == "swapped" else "ERROR"
    log.write(level, f"release {event}", facts, metrics.of_release(event, facts))


current = CurrentRelease(
    _open_store,
    _open_loader,
    settings.channel,
    Pace(settings.refresh_seconds, settings.retry_seconds),
    _report,
)
with start.recording():
    # The release is on its way while torch is imported.
    current.fetch_ahead()
    limit_threads(settings.threads)  # before torch, which `model` imports, reads it
    from model import Model, Request

    current.start()
start.ready()
# What is there now stays: no later collection looks at it again.
gc.freeze()
gc.enable()


@router.post("/predict")
@router.post("/")
def predict() -> Response:
    """One request of the model, one response; or a list of them, each answered or refused on its own."""
    http = router.http
    with receipts.phase("parse"):
        text = events.body_of(http, settings.max_body_bytes)
        several = _items(text) if text.lstrip().startswith("[") else []
        request = None if several else validation.parse(Request, text)
    with current.use(lambda: (http.header(CANARY_KEY) or text).encode(errors="replace")) as loaded:
        body = _answer_one(request, loaded.model) if request else _answer_several(several, loaded.model)
    responses.check_size(body)
    return _ok(body, loaded.version)


def _answer_one(request: Request, model: ServedModel) -> str:
    validation.check(model, request)
    with receipts.phase("predict"):
        (response,) = model.predict([request])
    return response.model_dump_json()


def _items(text: str) -> list[str]:
    from serving.http import batch  # not needed for a request alone, so a cold start does not wait for it

    return batch.split(text, settings.max_batch_items) if batch.takes_lists(Request) else []


def _answer_several(items: list[str], model: ServedModel) -> str:
    from serving.http import batch

    outcomes = batch.answer(items, Request, model)
    for index, outcome in enumerate(outcomes):
        if outcome.defect is not None:
            request_id = getattr(router.context, "aws_request_id", None)
            facts = {"request_id": request_id, "index": index, "code": "internal_error"}
            log.failure("item failed", facts, outcome.defect, metrics.embedded({"Errors": 1}))
    return f"[{','.join(outcome.text for outcome in outcomes)}]"


@router.get("/health")
def health() -> Response:
    """Whether a release is served, which one, and since when."""
    loaded = current.peek()
    body = {
        "status": "ok",
        "release": loaded.version,
        "since": loaded.since.isoformat(timespec="seconds"),
        "channel": current.channel,
        "refresh": asdict(current.counters),
    }
    return _ok(responses.json_text(body), loaded.version)


# What these three need is imported when the first of them is asked for: a cold start that predicts does not pay for it.


@router.get("/openapi.json")
def openapi_document() -> Response:
    """The API as an OpenAPI document; with a release in service, what only the release knows is in it."""
    import model
    from serving.http import openapi

    try:
        loaded = current.peek()
    except ServiceError:
        loaded = None
    known = loaded.model if loaded else None
    body = openapi.document(model.Request, model.Response, known, settings.max_batch_items)
    return _ok(responses.json_text(body), loaded.version if loaded else None)


@router.get("/")
def front_page() -> Response:
    """The page to try the model."""
    from serving.http import pages

    return _page(pages.front())


@router.get("/docs")
def docs_page() -> Response:
    """The API's document as a page."""
    from serving.http import pages

    return _page(pages.docs())


def _page(page: "Page") -> Response:
    known = page.is_known(router.http.header("if-none-match"))
    kind = "text/html; charset=utf-8"
    return Response(304 if known else 200, kind, "" if known else page.body, dict(page.headers))


@router.otherwise
def no_such_route() -> Response:
    """Preflights of known routes, 405 for their other methods, and 404 for the rest."""
    method, path = router.http.method, router.http.path
    methods = METHODS.get(path)
    if methods is None:
        raise ServiceError(404, "no_such_route", "There is no such route.", {"routes": sorted(METHODS)})
    allowed = (*methods, "OPTIONS")
    if method == "OPTIONS":
        return Response(status_code=204, headers=dict(cors.preflight(allowed)))
    raise ServiceError(
        405,
        "method_not_allowed",
        f"{path} takes {' and '.join(methods)}.",
        {"allowed": list(allowed)},
        {"Allow": ", ".join(allowed)},
    )


def _ok(body: str, version: str | None) -> Response:
    return Response(200, body=body, headers={"X-Model-Version": version} if version else {})


def _log(level: str, message: str, facts: dict[str, Any], counts: Mapping[str, float]) -> None:
    log.write(level, message, facts, metrics.embedded(counts))


def _answer(http: events.Http, context: Any) -> dict[str, Any]:
    status, content_type, body, headers = router.resolve(http, context)
    return responses.answer(status, body, headers, content_type)


def _handled(event: Any, context: Any, receipt: Receipt) -> tuple[dict[str, Any], events.Http, str | None]:
    """The answer, the request, and the error's code if it is an error."""
    code = None
    http = events.Http("", "")
    with receipt.recording(), receipt.phase("total"):
        try:
            http = events.to_http(event)
            result = _answer(http, context)
        except ServiceError as error:
            code = error.code
            result = responses.answer(error.status, responses.json_text(error.body()), error.headers)
        except Exception:
            # A defect of ours or of the model's: the trace goes to the log, the client gets the request id to quote.
            log.failure("failed", {"request_id": getattr(context, "aws_request_id", None)})
            failure = ServiceError(500, "internal_error", "The request failed inside the function; its log says why.")
            code = failure.code
            result = responses.answer(failure.status, responses.json_text(failure.body()), {})
    return result, http, code


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer one event of any kind that `serving.http.events` knows.

    HTTP is answered in the proxy form, never with an exception. Messages and batches have answers of their own
    (`serving.jobs.worker`); a batch that cannot be answered is an exception, which tells the state machine to try again.
    """
    kind = events.kind(event)
    if kind != "http":
        from serving.jobs.worker import Worker

        worker = Worker(settings, Request, current.use, _log)
        return worker.messages(event) if kind == "messages" else worker.batch(event)
    receipt = Receipt()
    result, http, code = _handled(event, context, receipt)
    account = accounts.of(receipt, code, current.age_seconds())
    result["headers"].update(cors.headers(http.header("origin")))
    result["headers"]["Server-Timing"] = account.server_timing
    log.write(
        "INFO",
        "request",
        {
            "request_id": getattr(context, "aws_request_id", None),
            "method": http.method,
            "path": http.path[:100],
            "status": result["statusCode"],
            "release": result["headers"].get("X-Model-Version"),
            **account.facts,
            **({"asked": http.body, "answered": result["body"]} if settings.log_requests else {}),
        },
        account.metrics,
    )
    return result


def before_snapshot() -> None:
    """SnapStart, ahead of the snapshot: answer a request, so that every copy has, and let go of what a copy must not share."""
    example = current.example()
    if example is not None:
        answer, _, code = _handled(json.loads(example.model_dump_json(exclude_none=True)), None, Receipt())
        log.write("INFO", "primed", {"status": answer["statusCode"], "code": code})
    current.suspend()
    gc.collect()
    gc.freeze()


def after_restore() -> None:
    """SnapStart, in every restored copy: draw other numbers than the next one, and serve what the channel names by now."""
    restored = receipts.Start()
    with restored.recording(), restored.phase("restore"):
        snapshot.reseed()
        current.resume()
    restored.ready()
    accounts.restored(restored)


if settings.initialization == snapshot.KIND:
    snapshot.register(before_snapshot, after_restore)
