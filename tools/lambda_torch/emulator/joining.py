"""Joins requests that come at the same time: one event with a list of them asks the function, and each gets its part.

A process of the function has one event at a time, on Lambda as well as here. So requests that come at once wait for
each other, though many a model answers a batch in less time than its requests one by one. The function takes lists
(`serving.http.batch`), and each item is answered or refused on its own. This is the other half: it makes such lists.

Only requests with the same path, query and headers are joined. Whatever the list does not answer is asked again alone:
an item that is refused, or all items of a list that fails. So each client gets the answer that it would get alone.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from lambda_torch.emulator.function import InvokeResult
from lambda_torch.emulator.payload_answers import GatewayResponse, MalformedAnswerError
from lambda_torch.emulator.payloads import GatewayRequest, Payload
from lambda_torch.emulator.pool import Pool
from lambda_torch.errors import EmulatorError

PATHS = ("/predict", "/")
# The function's own default, `Settings.max_batch_items`. A test compares them.
MOST_ITEMS = 100
# As bulk files: an event of that size leaves room for answers that are larger than their requests.
MOST_BYTES = 256 * 1024
# What differs from request to request, and does not change the answer. Any other header may.
_OWN = frozenset(("content-length", "traceparent", "tracestate", "x-amzn-trace-id", "x-request-id"))
_JSON = re.compile(r"|text/plain|application/(json|x-www-form-urlencoded|[\w.+-]+\+json)")
_ANY_JSON = frozenset(("", "*/*", "application/*", "application/json"))
# What the function gives in the place of an item that it does not answer. A response that only looks like this is
# asked again, and given as it is.
_REFUSAL = re.compile(r'\s*\{\s*"error"\s*:')

Joined = GatewayResponse | InvokeResult


@dataclass(frozen=True)
class JoiningLimits:
    """When requests are joined.

    Attributes:
        size: the most requests in a list.
        seconds: how long the first request of a list waits for others.
        most_bytes: the most bytes of the bodies of a list together.
    """

    size: int
    seconds: float
    most_bytes: int = MOST_BYTES


def limits_of(size: int, milliseconds: float, variables: Mapping[str, str]) -> JoiningLimits | None:
    """The limits for a function with these environment variables. None if requests are not joined.

    Raises:
        EmulatorError: the function takes fewer requests in a list.
    """
    if size == 1:
        return None
    most_items = _number(variables, "MAX_BATCH_ITEMS", MOST_ITEMS)
    if size > most_items:
        raise EmulatorError(
            f"{size} requests cannot be joined: the function takes {most_items} in a list (MAX_BATCH_ITEMS). "
            f"Next: --batch {most_items}, or --env MAX_BATCH_ITEMS={size}."
        )
    return JoiningLimits(size, milliseconds / 1000, min(MOST_BYTES, _number(variables, "MAX_BODY_BYTES", MOST_BYTES)))


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    """A variable's number. What is no number is refused by the function itself, with the variable's name."""
    text = variables.get(name, "")
    return int(text) if text.isdecimal() else default


@dataclass(eq=False)
class _Member:
    """A request that waits. `answer` is None once the request is to be asked alone."""

    request: GatewayRequest
    answer: "asyncio.Future[Joined | None]"


@dataclass(eq=False)
class _Group:
    """Requests that become one list. It is due when the time for others is over."""

    members: list[_Member] = field(default_factory=list)
    size: int = 0
    due: bool = False
    task: "asyncio.Task[None] | None" = None

    def waiting(self) -> list[_Member]:
        """The members whose clients still wait."""
        return [each for each in self.members if not each.answer.done()]


class Joiner:
    """Asks the function for requests that come at the same time. For the pool's event loop.

    A list goes to the function when it is full, or when its time is over. If all environments answer lists at that
    time, the list waits for one of them, and takes up more requests while it waits.

    Args:
        pool: takes the events.
        payload: the payload format.
        limits: when requests are joined.
        environments: the most environments of the pool.
    """

    def __init__(self, pool: Pool, payload: Payload, limits: JoiningLimits, environments: int) -> None:
        self._pool = pool
        self._payload = payload
        self._limits = limits
        self._environments = environments
        self._open: dict[object, _Group] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def answer(self, request: GatewayRequest) -> Joined | None:
        """The answer to a request, or None if it is of a kind that is not joined.

        Raises: as `Pool.answer`.
        """
        if not _can_be_joined(request, self._limits.most_bytes):
            return None
        member = _Member(request, asyncio.get_running_loop().create_future())
        group = self._add(member)
        try:
            found = await member.answer
        except asyncio.CancelledError:
            if group.task is not None and not group.waiting():
                group.task.cancel()
            raise
        return await self._pool.result(self._event(request)) if found is None else found

    def _add(self, member: _Member) -> _Group:
        key, size = _key(member.request), len(member.request.body) + 1
        group = self._open.get(key)
        if group is not None and group.size + size > self._limits.most_bytes:
            self._start(key)
            group = None
        if group is None:
            group = self._open[key] = _Group()
            asyncio.get_running_loop().call_later(self._limits.seconds, self._time_is_over, key, group)
        group.members.append(member)
        group.size += size
        if len(group.members) >= self._limits.size:
            self._start(key)
        return group

    def _time_is_over(self, key: object, group: _Group) -> None:
        if self._open.get(key) is group:
            group.due = True
            self._start_due()

    def _start_due(self) -> None:
        for key, group in list(self._open.items()):
            if group.due and len(self._running) < self._environments:
                self._start(key)

    def _start(self, key: object) -> None:
        group = self._open.pop(key)
        group.task = asyncio.ensure_future(self._ask(group))
        self._running.add(group.task)
        group.task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._start_due()

    async def _ask(self, group: _Group) -> None:
        """Ask the function, and settle every member of the group."""
        members = group.waiting()
        found: list[Joined | None] = [None] * len(members)
        try:
            if len(members) == 1:
                found = [await self._pool.result(self._event(members[0].request))]
            elif members:
                outcome = await self._pool.result(self._list(members))
                found = self._parts(outcome, len(members)) or found
        except Exception as error:
            for member in group.waiting():
                member.answer.set_exception(error)
            return
        for member, answer in zip(members, found, strict=True):
            if not member.answer.done():
                member.answer.set_result(answer)

    def _event(self, request: GatewayRequest) -> bytes:
        # Without the stage variables: an answer to one of several clients is not streamed.
        return json.dumps(self._payload.event(replace(request, stage_variables={}))).encode()

    def _list(self, members: list[_Member]) -> bytes:
        first = members[0].request
        body = b"[" + b",".join(each.request.body for each in members) + b"]"
        headers = [(name, value) for name, value in first.headers if name.lower() != "content-length"]
        return self._event(replace(first, body=body, headers=[*headers, ("Content-Length", str(len(body)))]))

    def _parts(self, outcome: InvokeResult, count: int) -> list[Joined | None] | None:
        """Each member's part of the answer, None for those to ask alone. None if the answer is no list of them."""
        from serving.errors import HttpError
        from serving.http import batch

        try:
            whole = None if outcome.failed else self._payload.answer(outcome.payload)
            if whole is None or whole.status != HTTPStatus.OK:
                return None
            items = batch.split(whole.body.decode(), count)
        except (MalformedAnswerError, HttpError, ValueError):  # the last two: its body is no list
            return None
        if len(items) != count:
            return None
        return [None if _REFUSAL.match(item) else replace(whole, body=item.encode()) for item in items]


def _can_be_joined(request: GatewayRequest, most_bytes: int) -> bool:
    """Whether it asks the model for one whole answer, in JSON, with one object that a list can take up as it is."""
    body = request.body
    if request.method != "POST" or (request.path.rstrip("/") or "/") not in PATHS or len(body) > most_bytes // 2:
        return False
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    accepted = {each.partition(";")[0].strip().lower() for each in (request.header("accept") or "").split(",")}
    if not _JSON.fullmatch(media_type) or not accepted <= _ANY_JSON:
        return False
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return False
    # A request for pieces has an answer of its own.
    return isinstance(value, dict) and value.get("stream", False) is False


def _key(request: GatewayRequest) -> object:
    headers = ((name.lower(), value) for name, value in request.headers)
    return request.path, request.query, tuple(sorted(each for each in headers if each[0] not in _OWN))
