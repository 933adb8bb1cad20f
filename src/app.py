"""The door: `lambda_handler`, the start-up before the first event, and the routes.

    POST /predict, POST /    a request of src/model as JSON; answers its response, with the release in X-Model-Version
    GET  /health             the release that is served, and since when

Refusals are `{"error": {"code", "message", "details"}}`; every answer carries CORS headers.
"""

from serving import receipts

start = receipts.Start.of_process()  # before the imports that it times

import gc

# Nothing that imports make is garbage, and looking for some takes a tenth of their CPU time.
gc.disable()

import json
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from serving import answers, events, s3, snapshot, validation
from serving.accounts import Accounts
from serving.contract import ModelClass
from serving.current import CurrentRelease, Pace
from serving.errors import ServiceError
from serving.loading import Loader
from serving.log import Log
from serving.metrics import Metrics
from serving.receipts import Receipt
from serving.routing import Response, Router
from serving.settings import AwsEnvironment, Settings, limit_threads
from serving.store import ReleaseError, ReleaseStore

settings = Settings.from_environment()
log = Log(settings.log_level)
metrics = Metrics(settings.function_name)
accounts = Accounts(start, settings.initialization, metrics)
cors = answers.Cors(settings.cors_origins)
router = Router()

METHODS = {"/predict": ("POST",), "/": ("POST",), "/health": ("GET",)}


# A client that sends this header gets the same release each time while a canary runs; without it, equal bodies do.
CANARY_KEY = "x-canary-key"


def _open_store() -> ReleaseStore:
    if settings.bucket is None:
        raise ReleaseError("no_bucket", "The function's variable MODEL_BUCKET is not set, so it has nowhere to look.")
    objects = s3.open_objects(AwsEnvironment.from_environment())
    return ReleaseStore(objects, settings.bucket, settings.cache, settings.fetch_seconds)


def _model_classes() -> tuple[ModelClass, type[BaseModel]]:
    return Model, Request


def _open_loader(store: ReleaseStore) -> Loader:
    return Loader(store, _model_classes, settings.memory_mb * 1024 * 1024)


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
    """One request of the model, one response."""
    http = router.http
    with receipts.phase("parse"):
        text = events.body_of(http, settings.max_body_bytes)
        request = validation.parse(Request, text)
    with current.use(lambda: http["headers"].get(CANARY_KEY, text).encode(errors="replace")) as loaded:
        validation.check(loaded.model, request)
        with receipts.phase("predict"):
            (response,) = loaded.model.predict([request])
        return _ok(response.model_dump_json(), loaded.version)


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
    return _ok(answers.json_text(body), loaded.version)


@router.otherwise
def no_such_route() -> Response:
    """Preflights of known routes, 405 for their other methods, and 404 for the rest."""
    method, path = router.http["requestContext"]["http"]["method"], router.http["rawPath"]
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


def _ok(body: str, version: str) -> Response:
    return Response(200, body=body, headers={"X-Model-Version": version})


def _answer(http: dict[str, Any], context: Any) -> dict[str, Any]:
    answered = router.resolve(http, context)
    kind = {"Content-Type": answered.content_type} if answered.body else {}
    return answers.answer(answered.status_code, answered.body, {**kind, **answered.headers})


def _handled(event: Any, context: Any, receipt: Receipt) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """The answer, the event in its one form, and the error's code if it is an error."""
    code = None
    http: dict[str, Any] = {"headers": {}, "rawPath": "", "requestContext": {"http": {"method": ""}}}
    with receipt.recording(), receipt.phase("total"):
        try:
            http = events.to_http(event)
            result = _answer(http, context)
        except ServiceError as error:
            code = error.code
            result = answers.answer(error.status, answers.json_text(error.body()), error.headers)
        except Exception:
            # A defect of ours or of the model's: the trace goes to the log, the client gets the request id to quote.
            log.failure("failed", {"request_id": getattr(context, "aws_request_id", None)})
            failure = ServiceError(500, "internal_error", "The request failed inside the function; its log says why.")
            code = failure.code
            result = answers.answer(failure.status, answers.json_text(failure.body()), {})
    return result, http, code


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer one event of any kind that `serving.events` knows, always in the proxy form, never with an exception."""
    receipt = Receipt()
    result, http, code = _handled(event, context, receipt)
    account = accounts.of(receipt, code, current.age_seconds())
    result["headers"].update(cors.headers(http["headers"].get("origin")))
    result["headers"]["Server-Timing"] = account.server_timing
    log.write(
        "INFO",
        "request",
        {
            "request_id": getattr(context, "aws_request_id", None),
            "method": http["requestContext"]["http"]["method"],
            "path": http["rawPath"][:100],
            "status": result["statusCode"],
            "release": result["headers"].get("X-Model-Version"),
            **account.facts,
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
