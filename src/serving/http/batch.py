"""Many requests at once: each is answered or refused on its own, and all that can be answered go through the model together."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel, RootModel

from serving.contract import ServedModel
from serving.errors import ServiceError
from serving.http import responses, validation
from serving.telemetry import receipts

_SPACE = re.compile(r"[ \t\n\r]*")  # RFC 8259 section 2
# Values are read only to find where they end: numbers stay text, so that none can be too long to convert.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


class Outcome(NamedTuple):
    """What became of one request of a batch.

    Attributes:
        text: JSON text: the response, or `{"error": {"code", "message", "details"}}`.
        error: why it was not answered, or None; `error.status` tells the client's mistakes (400) from the model's defects (500).
        defect: what the model raised, for the log.
    """

    text: str
    error: ServiceError | None = None
    defect: Exception | None = None


def takes_lists(kind: type[BaseModel]) -> bool:
    """Whether a list is several requests: where one request is not an object itself, it may be a list, and is taken for one."""
    return not issubclass(kind, RootModel)


def split(text: str, max_items: int) -> list[str]:
    """The JSON texts of a list's items, as they stand in it: each is then read as if it had come alone.

    Raises:
        ServiceError: 400 `invalid_json`, `empty_batch` or `too_many_items`.
    """
    try:
        items = list(_items(text))
    except json.JSONDecodeError as error:
        raise ServiceError(400, "invalid_json", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise ServiceError(
            400, "invalid_json", "The body is not JSON that can be read: it is nested too deeply."
        ) from None
    if not items:
        raise ServiceError(400, "empty_batch", "The list is empty: give at least one request in it.")
    if len(items) > max_items:
        raise ServiceError(
            400,
            "too_many_items",
            f"The list has {len(items)} requests; at most {max_items} are taken at once. Next: send them in several lists.",
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


def answer(items: Sequence[str], kind: type[BaseModel], model: ServedModel) -> list[Outcome]:
    """Answer every item, in order, by one call of `model.predict` with all that are valid.

    Where that call raises, the valid items go through the model one by one: only those that it cannot answer fail.

    Args:
        items: each a request's JSON text. Strict types differ between JSON and Python values, so
            whoever has values dumps them first.
        kind: the model's `Request`.
        model: a loaded model.

    Returns:
        One outcome an item; nothing about an item is ever raised.
    """
    outcomes: dict[int, Outcome] = {}
    requests: dict[int, BaseModel] = {}
    with receipts.phase("parse"):
        for index, item in enumerate(items):
            try:
                request = validation.parse(kind, item)
                validation.check(model, request)
                requests[index] = request
            except ServiceError as error:
                outcomes[index] = _failed(error)
            except Exception as defect:
                outcomes[index] = _defect(defect)
    outcomes.update(zip(requests, _predict(list(requests.values()), model), strict=True))
    return [outcomes[index] for index in range(len(items))]


def _predict(requests: list[BaseModel], model: ServedModel) -> list[Outcome]:
    if not requests:
        return []
    try:
        with receipts.phase("predict"):
            predicted = model.predict(requests)
        if len(predicted) != len(requests):
            raise ValueError(f"Model.predict gave {len(predicted)} responses to {len(requests)} requests")
        return [Outcome(response.model_dump_json()) for response in predicted]
    except Exception as defect:
        if len(requests) == 1:
            return [_defect(defect)]
    return [outcome for request in requests for outcome in _predict([request], model)]


def _failed(error: ServiceError, defect: Exception | None = None) -> Outcome:
    return Outcome(responses.json_text(error.body()), error, defect)


def _defect(defect: Exception) -> Outcome:
    message = "The model failed on this request; the function's log says why."
    return _failed(ServiceError(500, "internal_error", message), defect)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
