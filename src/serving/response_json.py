"""From a model's response to JSON text, in one place for clients, for golden examples and for bulk files.

Pydantic turns NumPy arrays, tensors and their numbers into what the response's fields say. Where a field says nothing
(`Any`, `dict`), they become lists and numbers here. A number that is not finite has no form in JSON. Pydantic would
write null, and no client could tell it from an answer; here it is an error.
"""

import json
import math
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from serving.errors import ServingError


class AnswerError(ServingError, ValueError):
    """A response cannot be sent as it is: a defect of the model. The message says which field, and what to change."""


def to_json(response: Any) -> str:
    """The JSON text of a response.

    Raises:
        AnswerError: it is no response, or it has a number that is NaN or infinite.
    """
    if not isinstance(response, BaseModel):
        raise AnswerError(
            f"Model.predict gave a {type(response).__name__} in place of a Response. "
            "Next: return a list with one Response for each request."
        )
    try:
        text = response.model_dump_json(fallback=_plain)
    except PydanticSerializationError as error:
        raise AnswerError(
            f"The response cannot be written as JSON: {error}. "
            "Next: convert the value in Model.predict, or give its field a type."
        ) from error
    # Pydantic writes null for a number that is not finite, or these names, by the response's configuration.
    if "null" in text or "NaN" in text or "Infinity" in text:
        _check_finite(response, text)
    return text


def _plain(value: Any) -> Any:
    """What pydantic does not know: arrays and tensors, and their numbers, have the method `tolist`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"it has a value of the type {type(value).__name__}")


def _check_finite(response: BaseModel, text: str) -> None:
    def constant(name: str) -> NoReturn:
        raise _not_finite("response", name)

    written = json.loads(text, parse_constant=constant)
    _compare(response.model_dump(), written, "response")


def _compare(value: Any, written: Any, where: str) -> None:
    """Raise AnswerError where null stands for a number that is not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        if written is None and not math.isfinite(value):
            raise _not_finite(where, str(value))
    elif isinstance(value, dict) and isinstance(written, dict):
        for (name, each), other in zip(value.items(), written.values(), strict=False):
            _compare(each, other, f"{where}.{name}")
    elif isinstance(value, list | tuple) and isinstance(written, list):
        for index, (each, other) in enumerate(zip(value, written, strict=False)):
            _compare(each, other, f"{where}[{index}]")


def _not_finite(where: str, number: str) -> AnswerError:
    return AnswerError(
        f"{where} is {number}, and JSON has no such number. Next: correct the model; or, where a missing number is an "
        "answer, give the field the type FiniteOrNull of serving.types, which makes it null."
    )
