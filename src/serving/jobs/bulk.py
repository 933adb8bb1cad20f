"""Batches of a bulk file's lines: one call of the model answers a batch, and each item's answer is a line again.

    {"lambda-torch": "bulk", "prefix": "results/...", "items": [{"index": 0, "value": <a request>}, ...]}

comes from the state machine. The answers are one object of JSON Lines, `<prefix>/<first index>-<last index>.jsonl`;
without a prefix the lines are in the answer itself. A line is `{"index", "release", "response"}` or `{"index",
"release", "error"}`.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import HttpError, ReleaseUnavailableError, ServingError
from serving.http import batch, events
from serving.http.service import Service
from serving.jobs.results import ResultWriteError, open_results

# Twelve digits, as they stand in the names of results.
MAX_INDEX = 10**12 - 1


class BatchError(ServingError):
    """A batch is not answered.

    The function raises it, so the state machine tries again and in the end gives the batch up.
    """


class _BulkItem(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    index: Annotated[int, Field(ge=0, le=MAX_INDEX)]
    value: Any


class _BulkBatch(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Annotated[Literal["bulk"], Field(alias="lambda-torch")]
    prefix: Annotated[str | None, Field(pattern="^results/.+[^/]$", max_length=900)] = None
    items: Annotated[list[_BulkItem], Field(min_length=1)]


def answer(service: Service, event: dict[str, Any]) -> dict[str, Any]:
    """Answer a batch, and log how it went.

    Args:
        service: the function.
        event: as above.

    Returns:
        `{"answered", "refused", "failed"}`: how many items each. Without a prefix, also `lines`.

    Raises:
        BatchError: the event is not of this form, no release can serve, or S3 did not take the results.
    """
    try:
        counts, lines = _answer(service, _read(event))
    except (ReleaseUnavailableError, ResultWriteError) as error:
        code = getattr(error, "code", "storage_unavailable")
        facts = {"code": code, "reason": str(error)}
        service.log.write("ERROR", "batch failed", facts, service.metrics.embedded({"Errors": 1}))
        raise BatchError(f"{code}: {error}") from error
    service.log.write("INFO", "batch", counts, service.metrics.embedded({"Requests": sum(counts.values())}))
    return dict(counts) if lines is None else {**counts, "lines": lines}


def _read(event: dict[str, Any]) -> _BulkBatch:
    try:
        return _BulkBatch.model_validate(event)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise BatchError(f"Not a batch of items: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _answer(service: Service, wanted: _BulkBatch) -> tuple[dict[str, int], str | None]:
    """The counts, and the lines where they are not written into the bucket."""
    items = wanted.items
    # As JSON text, as a client sends it: strict types accept other Python values than JSON values.
    texts = [_text(item.value) for item in items]
    with service.follower.use(lambda: str(texts[0]).encode()) as release:
        outcomes = batch.answer(texts, service.model.Request, release.model, service.context())
        version = json.dumps(release.version)
    counts = {"answered": 0, "refused": 0, "failed": 0}
    lines = []
    for item, outcome in zip(items, outcomes, strict=True):
        if outcome.error is None:
            counts["answered"] += 1
            lines.append(f'{{"index":{item.index},"release":{version},"response":{outcome.text}}}\n')
            continue
        counts["failed" if outcome.defect is not None else "refused"] += 1
        if outcome.defect is not None:
            facts = {"index": item.index, "code": "internal_error"}
            # The first defect counts: an alarm compares defects with invocations, and a batch is one of those.
            metrics = service.metrics.embedded({"Errors": 1}) if counts["failed"] == 1 else {}
            service.log.failure("item failed", facts, outcome.defect, metrics)
        # The text of a refusal is `{"error": ...}`: its only member becomes a member of this line.
        lines.append(f'{{"index":{item.index},"release":{version},{outcome.text[1:]}\n')
    text = "".join(lines)
    if wanted.prefix is None:
        return counts, text
    key = f"{wanted.prefix}/{items[0].index:012d}-{items[-1].index:012d}.jsonl"
    open_results(service.settings).write(key, text, "application/jsonl")
    return counts, None


def _text(value: Any) -> str | HttpError:
    try:
        return events.json_text(value)
    except HttpError as refusal:
        return refusal
