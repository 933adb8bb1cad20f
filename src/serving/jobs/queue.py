"""Messages of an SQS queue: each is what POST /predict takes, and is answered by an object in the bucket.

    results/<id>.json   {"id", "status", "release", "body"}: what POST /predict would have answered

The id is the message attribute `id`, or else the message's own id. What can never be answered (a 4xx) is a result too. What may
be answered later is handed back, so that SQS delivers it again and in the end moves it to the dead-letter queue (Lambda developer
guide, "Handling errors for an SQS event source": partial batch responses).
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serving.errors import ServiceError
from serving.http import batch, responses
from serving.jobs.results import PREFIX, Results, ResultsError
from serving.releases.loader import Loaded

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

Use = Callable[[Callable[[], bytes]], AbstractContextManager[Loaded]]
Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Rules:
    """What a message may be.

    Attributes:
        kind: the model's `Request`.
        max_body_bytes: the largest body.
        max_batch_items: the most requests in one message.
    """

    kind: type[BaseModel]
    max_body_bytes: int
    max_batch_items: int


@dataclass(frozen=True)
class _Message:
    message_id: str
    id: str
    texts: list[str]
    is_list: bool = False
    refused: ServiceError | None = None


def answer(
    event: dict[str, Any], rules: Rules, use: Use, results: Callable[[], Results], report: Report
) -> dict[str, Any]:
    """Answer the messages of an event, all that can be by one call of the model.

    Args:
        event: SQS's, as Lambda hands it over.
        use: gives the release that answers.
        results: gives where to write.
        report: told how each message went, for the log.

    Returns:
        `{"batchItemFailures": [{"itemIdentifier": message id}]}`: those that must be delivered again.
    """
    messages = [_read(record, rules) for record in event["Records"]]
    texts = [text for message in messages for text in message.texts]
    try:
        with use(lambda: messages[0].id.encode() if messages else b"") as loaded:
            outcomes = iter(batch.answer(texts, rules.kind, loaded.model))
            version = loaded.version
    except ServiceError as error:
        for message in messages:
            report("postponed", {"message_id": message.message_id, "id": message.id, "code": error.code})
        return _again([message.message_id for message in messages])
    failed, written = [], results()
    for message in messages:
        own = [next(outcomes) for _ in message.texts]
        if not _finish(message, own, version, written, report):
            failed.append(message.message_id)
    return _again(failed)


def _finish(
    message: _Message, outcomes: Sequence[batch.Outcome], version: str, results: Results, report: Report
) -> bool:
    """Write the message's result; False where it must come again."""
    facts: dict[str, Any] = {"message_id": message.message_id, "id": message.id, "release": version}
    defects = [each.defect for each in outcomes if each.defect is not None]
    if defects:
        # It may be the model's fault or this environment's: another try, and then the dead-letter queue, where people look.
        report("failed", {**facts, "code": "internal_error", "reason": f"{type(defects[0]).__name__}: {defects[0]}"})
        return False
    status, text = _answered(message, outcomes)
    # The parts are JSON already; what is put around them is plain.
    document = f'{{"id":{json.dumps(message.id)},"status":{status},"release":{json.dumps(version)},"body":{text}}}'
    try:
        fresh = results.write(f"{PREFIX}{message.id}.json", document, "application/json")
    except ResultsError as error:
        report("failed", {**facts, "code": "storage_unavailable", "reason": str(error)})
        return False
    report("answered" if fresh else "known", {**facts, "status": status})
    return True


def _answered(message: _Message, outcomes: Sequence[batch.Outcome]) -> tuple[int, str]:
    if message.refused is not None:
        return message.refused.status, responses.json_text(message.refused.body())
    if message.is_list:
        return 200, f"[{','.join(each.text for each in outcomes)}]"
    (outcome,) = outcomes
    return (outcome.error.status if outcome.error is not None else 200), outcome.text


def _read(record: dict[str, Any], rules: Rules) -> _Message:
    message_id, text = str(record["messageId"]), str(record["body"])
    named = record.get("messageAttributes", {}).get("id", {}).get("stringValue")
    try:
        if named is not None and not ID.fullmatch(named):
            raise ServiceError(
                400, "invalid_id", "The message attribute id has to be 1-128 letters, digits, dots, dashes or _."
            )
        if len(text.encode(errors="replace")) > rules.max_body_bytes:
            raise ServiceError(413, "body_too_large", f"The message has more than {rules.max_body_bytes} bytes.")
        is_list = batch.takes_lists(rules.kind) and text.lstrip().startswith("[")
        texts = batch.split(text, rules.max_batch_items) if is_list else [text]
    except ServiceError as error:
        usable = named if named is not None and ID.fullmatch(named) else message_id
        return _Message(message_id, usable, [], refused=error)
    return _Message(message_id, named or message_id, texts, is_list)


def _again(message_ids: Sequence[str]) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": each} for each in message_ids]}
