"""A batch of a bulk file's lines: answered by one call of the model, as lines again.

    {"lambda-torch": "bulk", "prefix": "results/...", "items": [{"index": 0, "value": <a request>}, ...]}

comes from the state machine, and writes one object of JSON Lines, `<prefix>/<first index>-<last index>.jsonl`; without a prefix
the lines are the answer. A line is `{"index", "release", "response"}` or `{"index", "release", "error"}`.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from serving.http import batch, responses
from serving.jobs.results import Results
from serving.releases.loader import Loaded

Use = Callable[[Callable[[], bytes]], AbstractContextManager[Loaded]]


class BatchError(Exception):
    """A batch that cannot be answered at all. Raised out of the function: the state machine tries again, or gives it up."""


class _Item(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    index: NonNegativeInt
    value: Any


class _Batch(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Annotated[Literal["bulk"], Field(alias="lambda-torch")]
    prefix: Annotated[str | None, Field(pattern="^results/.+[^/]$", max_length=900)] = None
    items: Annotated[list[_Item], Field(min_length=1)]


def answer(
    event: dict[str, Any], kind: type[BaseModel], use: Use, results: Callable[[], Results], report: Callable[..., None]
) -> dict[str, Any]:
    """Answer a batch.

    Args:
        event: as above.
        kind: the model's `Request`.
        use: gives the release that answers.
        results: gives where to write.
        report: told what the model raised for which item, for the log.

    Returns:
        `{"answered", "refused", "failed"}`, how many items each; and `lines`, where nothing was written.

    Raises:
        BatchError: the event is not of this form.
        ServiceError: there is no usable release.
        ResultsError: S3 did not take the results.
    """
    try:
        wanted = _Batch.model_validate(event)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise BatchError(f"Not a batch of items: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    items = wanted.items
    # By way of JSON text, as from a client: strict types differ between JSON and Python values.
    texts = [responses.compact(item.value) for item in items]
    with use(lambda: texts[0].encode()) as loaded:
        outcomes = batch.answer(texts, kind, loaded.model)
        release = json.dumps(loaded.version)
    counts = {"answered": 0, "refused": 0, "failed": 0}
    lines = []
    for item, outcome in zip(items, outcomes, strict=True):
        if outcome.error is None:
            counts["answered"] += 1
            lines.append(f'{{"index":{item.index},"release":{release},"response":{outcome.text}}}\n')
            continue
        counts["failed" if outcome.defect is not None else "refused"] += 1
        if outcome.defect is not None:
            report(item.index, outcome.defect)
        # The text of a refusal is `{"error": ...}`: its member is this line's.
        lines.append(f'{{"index":{item.index},"release":{release},{outcome.text[1:]}\n')
    text = "".join(lines)
    if wanted.prefix is None:
        return {**counts, "lines": text}
    key = f"{wanted.prefix}/{items[0].index:012d}-{items[-1].index:012d}.jsonl"
    results().write(key, text, "application/jsonl")
    return dict(counts)
