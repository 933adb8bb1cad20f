"""Golden examples: requests with recorded responses.

A release must give its own responses again before it may serve.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence

from pydantic import BaseModel, JsonValue, ValidationError

from serving import response_json
from serving.contract import ServedModel
from serving.errors import ServingError
from serving.releases.format import GoldenExample


class GoldenError(ServingError):
    """A model does not give a recorded response. The message says which one, and where it differs."""


def check(model: ServedModel, request_class: type[BaseModel], examples: Sequence[GoldenExample]) -> None:
    """Let the model answer every example, and compare.

    Raises:
        GoldenError: for the first example that the model refuses or answers differently.
    """
    for number, example in enumerate(examples, 1):
        try:
            response = answer(model, request_class, example.request)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise GoldenError(f"golden example {number} is not a request: {problem}") from None
        except Exception as error:
            # Whatever the model's own code raises for a request that it cannot answer.
            raise GoldenError(f"golden example {number} is not answered: {type(error).__name__}: {error}") from error
        difference = compare(response, example.response, example.tolerance)
        if difference is not None:
            raise GoldenError(f"golden example {number}: {difference}{_kernels()}")


def _kernels() -> str:
    """The kernels that PyTorch has chosen for this processor: others round otherwise. Empty without torch."""
    chosen = getattr(getattr(sys.modules.get("torch"), "_C", None), "_get_cpu_capability", None)
    return "" if chosen is None else f" (with PyTorch's {chosen()} kernels)"


def answer(model: ServedModel, request_class: type[BaseModel], request: JsonValue) -> JsonValue:
    """The model's response to one request, both as JSON values.

    Raises:
        pydantic.ValidationError: the request is not one of the model's.
        Exception: whatever the model raises for a request that it refuses or cannot answer.
    """
    # As JSON text, as a client sends it: strict types accept other Python values than JSON values.
    parsed = request_class.model_validate_json(json.dumps(request))
    checker: Callable[[BaseModel], None] | None = getattr(model, "check", None)
    if checker is not None:
        checker(parsed)
    (response,) = model.predict([parsed])
    dumped: JsonValue = json.loads(response_json.to_json(response))
    return dumped


def compare(actual: JsonValue, expected: JsonValue, tolerance: float, where: str = "the response") -> str | None:
    """Where two JSON values differ, in words; None where numbers are within the tolerance and all else is equal."""
    numbers = (int, float)
    if isinstance(actual, numbers) and isinstance(expected, numbers) and not isinstance(actual, bool | type(None)):
        if isinstance(expected, bool):
            return f"{where} is {actual!r}, and {expected!r} was expected"
        if math.isclose(actual, expected, rel_tol=tolerance, abs_tol=tolerance):
            return None
        return f"{where} is {actual!r}, and {expected!r} was expected (tolerance {tolerance})"
    if type(actual) is not type(expected):
        return f"{where} has another type than expected"
    if isinstance(actual, list) and isinstance(expected, list):
        if len(actual) != len(expected):
            return f"{where} has {len(actual)} items, and {len(expected)} were expected"
        pairs = (
            (f"{where}[{index}]", one, other) for index, (one, other) in enumerate(zip(actual, expected, strict=True))
        )
        return next((found for at, one, other in pairs if (found := compare(one, other, tolerance, at))), None)
    if isinstance(actual, dict) and isinstance(expected, dict):
        if actual.keys() != expected.keys():
            return f"{where} has other fields than expected"
        named = ((f"{where}.{name}", actual[name], expected[name]) for name in expected)
        return next((found for at, one, other in named if (found := compare(one, other, tolerance, at))), None)
    if actual != expected:
        return f"{where} is {str(actual)[:80]!r}, and {str(expected)[:80]!r} was expected"
    return None
