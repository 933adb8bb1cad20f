"""From a request's text to a typed request. Every refusal is an HttpError that says what to correct."""

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticCustomError, from_json, to_json

from serving.contract import ServedModel
from serving.errors import HttpError

R = TypeVar("R", bound=BaseModel)

# An answer lists at most this many problems, and shows at most this many characters of a field's name or a message.
MAX_PROBLEMS = 20
MAX_CHARACTERS = 300
# White space of JSON (RFC 8259, section 2). Python's own `strip` takes more, such as the no-break space.
WHITE_SPACE = " \t\n\r"


# What may stand for a number that is not finite: pydantic takes NaN and Infinity, which JSON does not have, and reads a
# number that is too large as an infinity. The names and digits may as well be part of a text.
_MAYBE_NOT_FINITE = (re.compile(r"[NIeE](?:aN|nfinity|\+?\d{3})"), re.compile(r"\d{309}"))


def is_list(text: str) -> bool:
    """Whether a JSON text is a list, if it is JSON at all."""
    return text.lstrip(WHITE_SPACE).startswith("[")


def takes_lists(kind: type[BaseModel]) -> bool:
    """Whether a list means several requests.

    Where one request is not an object, it may be a list itself, so a list means one.
    """
    return not issubclass(kind, RootModel)


def parse(kind: type[R], text: str, context: dict[str, Any] | None = None) -> R:
    """Read a request from JSON text.

    Args:
        context: what the types of `serving.types` read bytes from (`Service.context`).

    Raises:
        HttpError: 400 `invalid_json`, or 400 `invalid_request` with one entry for each problem in `details.problems`.
    """
    try:
        request = kind.model_validate_json(text, context=context)
        if any(each.search(text) is not None for each in _MAYBE_NOT_FINITE):
            _check_numbers(text)
        return request
    except ValidationError as error:
        # Input values stay out of the answer: they may be long, secret, or (NaN) not even JSON.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    except UnicodeEncodeError:
        raise HttpError(400, "invalid_json", "The body is not JSON: it has half of a surrogate pair.") from None
    except RecursionError:
        raise HttpError(400, "invalid_request", "The body is nested more deeply than a request can be.") from None
    if problems[0]["type"] == "json_invalid":
        raise HttpError(
            400, "invalid_json", f"The body is not JSON: {problems[0]['msg'].removeprefix('Invalid JSON: ')}."
        )
    listed = [
        {
            "field": _shortened(".".join(str(part) for part in problem["loc"])),
            "code": problem["type"],
            "message": _shortened(problem["msg"]),
        }
        for problem in problems[:MAX_PROBLEMS]
    ]
    first = listed[0]
    raise HttpError(
        400,
        "invalid_request",
        f"{first['field'] or 'The body'}: {first['message']}",
        {"problems": listed},
    )


def _check_numbers(text: str) -> None:
    """Refuse JSON text with a number that is not finite. The text is JSON, but for these.

    Raises:
        HttpError: 400 `invalid_json`, or 400 `invalid_request` for a number that no double can hold.
    """
    import json

    def constant(name: str) -> NoReturn:
        raise HttpError(400, "invalid_json", f"The body is not JSON: it has {name}, which is no number of JSON.")

    def number(digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise HttpError(400, "invalid_request", "The body has a number that is too large.")
        return value

    # Whole numbers stay text: Python refuses to convert very long ones, and pydantic has read these.
    json.loads(text, parse_constant=constant, parse_float=number, parse_int=str)


def check(model: ServedModel, request: BaseModel) -> None:
    """Ask the model about what only it can judge. A model need not have a method `check`.

    Raises:
        HttpError: 400 with the code, message and context of the model's `PydanticCustomError`.
    """
    checker: Callable[[Any], None] | None = getattr(model, "check", None)
    if checker is None:
        return
    try:
        checker(request)
    except PydanticCustomError as error:
        raise refusal(error) from None


def refusal(error: PydanticCustomError) -> HttpError:
    """The refusal that a model's error stands for: 400 with its code, message and context."""
    # Whatever the model puts into the context becomes JSON: a refusal must not fail.
    details = from_json(to_json(error.context or {}, inf_nan_mode="strings", fallback=str))
    return HttpError(400, error.type, error.message(), details)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
