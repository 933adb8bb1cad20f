"""From a request's text to a typed request: every refusal is a ServiceError that says what to mend."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from serving.contract import ServedModel
from serving.errors import ServiceError

R = TypeVar("R", bound=BaseModel)

# More problems than a person would mend at once only make the answer long.
MAX_PROBLEMS = 20


def parse(kind: type[R], text: str) -> R:
    """Read a request from JSON text.

    Raises:
        ServiceError: 400 `invalid_json`, or 400 `invalid_request` with one entry a problem in `details.problems`.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        # Input values stay out of the answer: they may be long, secret, or (NaN) not even JSON.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    except UnicodeEncodeError:
        raise ServiceError(400, "invalid_json", "The body is not JSON: it has a lone surrogate.") from None
    if problems[0]["type"] == "json_invalid":
        raise ServiceError(
            400, "invalid_json", f"The body is not JSON: {problems[0]['msg'].removeprefix('Invalid JSON: ')}."
        )
    listed = [
        {"field": ".".join(str(part) for part in problem["loc"]), "code": problem["type"], "message": problem["msg"]}
        for problem in problems[:MAX_PROBLEMS]
    ]
    first = listed[0]
    raise ServiceError(
        400,
        "invalid_request",
        f"{first['field'] or 'The body'}: {first['message']}",
        {"problems": listed},
    )


def check(model: ServedModel, request: BaseModel) -> None:
    """Ask the model what only it can tell about a request; models need not have a `check`.

    Raises:
        ServiceError: 400 with the code, message and context of the model's `PydanticCustomError`.
    """
    checker: Callable[[Any], None] | None = getattr(model, "check", None)
    if checker is None:
        return
    try:
        checker(request)
    except PydanticCustomError as error:
        raise ServiceError(400, error.type, error.message(), error.context) from None
