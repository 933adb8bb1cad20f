"""The function: what happens when an environment starts, `lambda_handler`, and the hooks of SnapStart.

    POST /predict, POST /    a request of src/model as JSON, or a list of them; the answer is its response, or a list of
                             responses and refusals, and names the release in X-Model-Version; on request in pieces
    GET  /health             which release serves, and since when
    GET  /openapi.json       the API's document
    GET  /, GET /docs        pages for people: to try the model, and for the document

Refusals are `{"error": {"code", "message", "details"}}`. Every answer carries CORS headers.
"""

from serving.telemetry.receipts import Receipt, Start

start = Start.of_process()  # before the imports that it times

import gc

# What imports make is no garbage, so a search for garbage during the start only takes CPU time.
gc.disable()

import json
from typing import Any

from serving import snapshot
from serving.http import events, handler
from serving.http.responses import Cors
from serving.http.service import Invocation, Service
from serving.releases.deaths import DeathMarks
from serving.releases.follower import Follower, RefreshPace
from serving.releases.loader import Loader, example_of
from serving.releases.reading import ChannelReader, ReadAhead
from serving.releases.reporting import ReleaseLog
from serving.releases.slot import Slot
from serving.releases.store import open_store, room_of
from serving.releases.swapper import Swapper
from serving.settings import Settings, limit_threads
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log
from serving.telemetry.request_log import RequestLog

settings = Settings.from_environment()
log, metrics = Log(settings.log_level), Metrics(settings.function_name, settings.metrics)
reader = ChannelReader(lambda: open_store(settings), settings.channel, allow_programs=settings.allow_programs)
with start.recording():
    # The release is on its way while torch is imported.
    ahead = ReadAhead(reader)
    limit_threads(settings.threads)  # before torch, which `model` imports, reads it
    import model

    slot, release_log = Slot(), ReleaseLog(log, metrics)
    loader = Loader(model, room_of(settings), DeathMarks(settings.cache), settings.trial_seconds)
    swapper = Swapper(slot, reader, loader, release_log)
    pace = RefreshPace(settings.refresh_seconds, settings.retry_seconds, settings.wait_seconds, settings.lend_seconds)
    follower = Follower(reader, swapper, slot, pace, release_log)
    follower.start(ahead)
request_log = RequestLog(start, settings.initialization, metrics, settings.line_seconds, settings.slow_ms)
streams = settings.streams
if streams:
    from serving.runtime import hook

    streams = hook.prepared(settings, log, streams)
cors = Cors(settings.cors_origins)
service = Service(settings, model, slot, follower, log, metrics, request_log, cors, streams)
start.ready()
# What exists now stays: no later search for garbage looks at it again.
gc.freeze()
gc.enable()


def lambda_handler(event: Any, context: Any) -> Any:
    """Answer one event of any kind that `serving.http.events` knows.

    HTTP is answered in the proxy form or in pieces, and never raises. Messages and batches have their own answers
    (`serving.jobs`); a batch that is not answered raises, so the state machine tries again.
    """
    match events.kind(event):
        case "messages":
            from serving.jobs import queue

            return queue.answer(service, event)
        case "batch":
            from serving.jobs import bulk

            return bulk.answer(service, event)
    return handler.handle(service, event, context)


def before_snapshot() -> None:
    """SnapStart, before the snapshot: answer a request, so that all code has run, and give up what cannot be copied."""
    example = None if slot.in_service is None else example_of(slot.in_service.current.model)
    if example is not None:
        event = json.loads(example.model_dump_json(exclude_none=True))
        _, response, code = handler.respond(service, event, Invocation(Receipt()))
        log.write("INFO", "primed", {"status": response.status, "code": code})
    follower.suspend()
    gc.collect()
    gc.freeze()


def after_restore() -> None:
    """SnapStart, in every restored copy: draw random numbers of its own, and serve what the channel names now."""
    restored = Start()
    with restored.recording(), restored.phase("restore"):
        snapshot.reseed()
        follower.resume()
    restored.ready()
    request_log.restored(restored)


if settings.initialization == snapshot.KIND:
    snapshot.register(before_snapshot, after_restore)
