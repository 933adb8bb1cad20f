"""What a request needs: the parts of the started function, the call that it is part of, and the route that answers it.

`app.py` makes one `Service` when an environment starts. Functions take it as an argument; nothing reads it from a
global variable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from serving.contract import ModelPackage, Task
from serving.http.events import HttpRequest
from serving.http.responses import Cors, HttpResponse
from serving.releases.follower import Follower
from serving.releases.slot import Slot
from serving.settings import Settings
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log
from serving.telemetry.receipts import Receipt
from serving.telemetry.request_log import RequestLog

# What remains of the function's time for the last piece, the log and Lambda itself. A model gets that much less.
RESERVE_SECONDS = 0.5
_NO_PARTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Service:
    """The parts of a started function.

    Attributes:
        settings: the function's settings.
        model: the package `src/model`.
        slot: what serves now.
        follower: keeps the slot up to date; requests get their release from its `use`.
        log: writes the log.
        metrics: makes metrics of log lines.
        request_log: the record of each HTTP request.
        cors: the CORS headers of each answer.
        streams: where answers can be sent in pieces, as `Settings.streams` says it; nowhere, if Lambda's runtime client
            in this environment cannot do it.
    """

    settings: Settings
    model: ModelPackage
    slot: Slot
    follower: Follower
    log: Log
    metrics: Metrics
    request_log: RequestLog
    cors: Cors
    streams: frozenset[str] = frozenset()

    def context(self, parts: Mapping[str, Any] = _NO_PARTS) -> dict[str, Any]:
        """What the types of `serving.types` read bytes from: the parts of this body, by name, and uploads."""
        return {"parts": parts, "uploads": self._upload}

    def _upload(self, identity: str, max_bytes: int) -> Any:
        from serving import uploads  # few requests name one

        return uploads.read(self.settings, identity, max_bytes)


class Reader(NamedTuple):
    """Who waits for the answer of an HTTP request.

    Attributes:
        seconds_left: gives the seconds until Lambda ends the invocation.
        streams: whether pieces reach the client as they come. If not, they are collected, and sent at the end.
        whole_seconds_left: the same for an answer that is sent whole: fewer, where API Gateway waits for it. None: the
            same.
    """

    seconds_left: Callable[[], float]
    streams: bool
    whole_seconds_left: Callable[[], float] | None = None

    def piece_seconds(self) -> float:
        """The seconds that a model may still take for pieces: what is left, less what the function needs itself."""
        return self.seconds_left() - RESERVE_SECONDS if self.streams else self.whole_seconds()

    def whole_seconds(self) -> float:
        """The same for a whole answer."""
        return (self.whole_seconds_left or self.seconds_left)() - RESERVE_SECONDS


class Invocation(NamedTuple):
    """One call of the function.

    Attributes:
        receipt: takes the phases of this call.
        request_id: Lambda's id of the call, which the log lines carry; None outside Lambda.
        reader: who waits for the answer; None where only a whole answer is of use.
    """

    receipt: Receipt
    request_id: str | None = None
    reader: Reader | None = None


class Route(NamedTuple):
    """One row of the table of routes (`serving.http.routes`).

    Attributes:
        method, path: what the route answers.
        answer: the function that does.
        name: the route's name in the OpenAPI document (`operationId`).
        summary: what it gives, for people.
        preflight: whether scripts of other pages call it with headers or a body, so that browsers send a preflight
            first. API Gateway lets preflights of such paths through; the function itself answers those of every path.
        tasks: the tasks of models that have this route (`serving.contract.Task`). Empty: every model has it.
    """

    method: str
    path: str
    answer: Callable[[Service, HttpRequest, Invocation], HttpResponse]
    name: str
    summary: str
    preflight: bool = False
    tasks: tuple[Task, ...] = ()
