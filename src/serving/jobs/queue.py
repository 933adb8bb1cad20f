"""Messages of an SQS queue: each one is what POST /predict takes, and its answer is an object in the bucket.

    results/<id>.json   {"id", "status", "release", "body"}: what POST /predict would have answered

The id is the message attribute `id`, or else the message's own id. A message that can never be answered (a 4xx) has a
result too. A message that can be answered later is handed back, so that SQS delivers it again, and in the end moves it
to the dead-letter queue (Lambda developer guide, "Handling errors for an SQS event source": partial batch responses).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import HttpError, ReleaseUnavailableError
from serving.http import batch, responses, validation
from serving.http.batch import ItemOutcome
from serving.http.events import RESULT_ID
from serving.http.service import Service
from serving.jobs.results import PREFIX, ResultWriteError, open_results


@dataclass(frozen=True)
class _Message:
    """A message as it was read: its requests' JSON texts, or why it is refused as a whole."""

    message_id: str
    id: str
    texts: list[str]
    is_list: bool = False
    refused: HttpError | None = None


def answer(service: Service, event: dict[str, Any]) -> dict[str, Any]:
    """Answer the messages of an event, all that can be by one call of the model, and log how each went.

    Args:
        service: the function.
        event: SQS's event, as Lambda hands it over.

    Returns:
        `{"batchItemFailures": [{"itemIdentifier": message id}]}`: those that must be delivered again.
    """
    messages = [_read(service, record) for record in event["Records"]]
    texts = [text for message in messages for text in message.texts]
    try:
        with service.follower.use(lambda: messages[0].id.encode()) as release:
            outcomes = iter(batch.answer(texts, service.model.Request, release.model, service.context()))
            version = release.version
    except ReleaseUnavailableError as error:
        for message in messages:
            _log(service, "postponed", {"message_id": message.message_id, "id": message.id, "code": error.code})
        return _again(messages)
    return _again(
        [
            message
            for message in messages
            if not _finish(service, message, [next(outcomes) for _ in message.texts], version)
        ]
    )


def _finish(service: Service, message: _Message, outcomes: Sequence[ItemOutcome], version: str) -> bool:
    """Write the message's result. Returns False where the message must come again."""
    facts: dict[str, Any] = {"message_id": message.message_id, "id": message.id, "release": version}
    defects = [each.defect for each in outcomes if each.defect is not None]
    if defects:
        # The fault may be the model's or this environment's: another try, and then the dead-letter queue, where people
        # look.
        reason = f"{type(defects[0]).__name__}: {defects[0]}"
        _log(service, "failed", {**facts, "code": "internal_error", "reason": reason})
        return False
    status, text = _answered(message, outcomes)
    # Its parts are JSON already.
    document = f'{{"id":{json.dumps(message.id)},"status":{status},"release":{json.dumps(version)},"body":{text}}}'
    try:
        fresh = open_results(service.settings).write(f"{PREFIX}{message.id}.json", document, "application/json")
    except ResultWriteError as error:
        _log(service, "failed", {**facts, "code": "storage_unavailable", "reason": str(error)})
        return False
    _log(service, "answered" if fresh else "known", {**facts, "status": status})
    return True


def _answered(message: _Message, outcomes: Sequence[ItemOutcome]) -> tuple[int, str]:
    if message.refused is not None:
        return message.refused.status, responses.json_text(message.refused.body())
    if message.is_list:
        return 200, f"[{','.join(each.text for each in outcomes)}]"
    (outcome,) = outcomes
    return (outcome.error.status if outcome.error is not None else 200), outcome.text


def _read(service: Service, record: dict[str, Any]) -> _Message:
    settings, kind = service.settings, service.model.Request
    message_id, text, named = record["messageId"], record["body"], _named(record)
    try:
        if named is not None and not RESULT_ID.fullmatch(named):
            raise HttpError(
                400, "invalid_id", "The message attribute id has to be 1-128 letters, digits, dots, dashes or _."
            )
        if len(text.encode(errors="replace")) > settings.max_body_bytes:
            raise HttpError(413, "body_too_large", f"The message has more than {settings.max_body_bytes} bytes.")
        is_list = validation.takes_lists(kind) and validation.is_list(text)
        texts = batch.split(text, settings.max_batch_items) if is_list else [text]
    except HttpError as error:
        usable = named if named is not None and RESULT_ID.fullmatch(named) else message_id
        return _Message(message_id, usable, [], refused=error)
    return _Message(message_id, named or message_id, texts, is_list)


def _named(record: dict[str, Any]) -> str | None:
    """The value of the message attribute `id`; None where the message has none, or none that is text."""
    value: Any = record.get("messageAttributes")
    for name in ("id", "stringValue"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _log(service: Service, what: str, facts: dict[str, Any]) -> None:
    counts = {"Requests": 1} | ({"Errors": 1} if "code" in facts else {})
    level = "ERROR" if "code" in facts else "INFO"
    service.log.write(level, f"message {what}", facts, service.metrics.embedded(counts))


def _again(messages: Sequence[_Message]) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": each.message_id} for each in messages]}
