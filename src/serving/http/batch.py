"""Several requests at once: each is answered or refused on its own, and the model gets all valid ones in one call."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from serving import response_json
from serving.contract import ServedModel
from serving.errors import HttpError
from serving.http import events, responses, validation
from serving.telemetry import receipts

_SPACE = re.compile(f"[{validation.WHITE_SPACE}]*")
# Values are read only to find where they end. Numbers stay text, since Python refuses to convert very long ones.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


class ItemOutcome(NamedTuple):
    """What became of one request of a batch.

    Attributes:
        text: JSON text: the response, or `{"error": {"code", "message", "details"}}`.
        error: why there is no response; None where there is one. Its status is 4xx for a client's mistake and 500 for a
            defect.
        defect: what the model raised, for the log.
    """

    text: str
    error: HttpError | None = None
    defect: Exception | None = None


def split(text: str, max_items: int) -> list[str]:
    """The JSON texts of a list's items, exactly as they are in the list. Each one is then read as if it had come alone.

    Raises:
        HttpError: 400 `invalid_json`, `empty_batch` or `too_many_items`.
    """
    try:
        items = list(_items(text))
    except json.JSONDecodeError as error:
        raise HttpError(400, "invalid_json", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise events.too_deep() from None
    if not items:
        raise HttpError(400, "empty_batch", "The list is empty: give at least one request in it.")
    if len(items) > max_items:
        raise HttpError(
            400,
            "too_many_items",
            f"The list has {len(items)} requests, and at most {max_items} may come at once. Next: send several lists.",
            {"count": len(items), "limit": max_items},
        )
    return items


def _items(text: str) -> Iterator[str]:
    at = _after_space(text, text.index("[") + 1)
    following = not text.startswith("]", at)
    while following:
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _after_space(text, end)
        if following := text.startswith(",", at):
            at = _after_space(text, at + 1)
    if not text.startswith("]", at):
        raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    if (rest := _after_space(text, at + 1)) != len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def answer(
    items: Sequence[str | HttpError],
    kind: type[BaseModel],
    model: ServedModel,
    context: dict[str, Any] | None = None,
) -> list[ItemOutcome]:
    """Answer every item, in order, by one call of `model.predict` with all valid ones.

    Where that call raises, the valid items go through the model one by one. Only those that it cannot answer fail.

    Args:
        items: each is a request's JSON text, or why that text cannot be made. (Values are not taken: strict types
            accept other Python values than JSON values.)
        kind: the model's `Request`.
        model: a loaded model.
        context: as `validation.parse`.

    Returns:
        One outcome for each item. No item makes this function raise.
    """
    outcomes: dict[int, ItemOutcome] = {}
    requests: dict[int, BaseModel] = {}
    with receipts.phase("parse"):
        for index, item in enumerate(items):
            try:
                if isinstance(item, HttpError):
                    raise item
                request = validation.parse(kind, item, context)
                validation.check(model, request)
                requests[index] = request
            except HttpError as error:
                outcomes[index] = _failed(error)
            except Exception as defect:
                outcomes[index] = _defect(defect)
    outcomes.update(zip(requests, _predict(list(requests.values()), model), strict=True))
    return [outcomes[index] for index in range(len(items))]


def _predict(requests: list[BaseModel], model: ServedModel) -> list[ItemOutcome]:
    if not requests:
        return []
    try:
        with receipts.phase("predict"):
            predicted = model.predict(requests)
        if len(predicted) != len(requests):
            raise ValueError(f"Model.predict gave {len(predicted)} responses to {len(requests)} requests")
        return [ItemOutcome(response_json.to_json(response)) for response in predicted]
    except Exception as defect:
        if len(requests) == 1:
            return [_defect(defect)]
    return [outcome for request in requests for outcome in _predict([request], model)]


def _failed(error: HttpError, defect: Exception | None = None) -> ItemOutcome:
    return ItemOutcome(responses.json_text(error.body()), error, defect)


def _defect(defect: Exception) -> ItemOutcome:
    message = "The model failed on this request; the function's log says why."
    return _failed(HttpError(500, "internal_error", message), defect)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
