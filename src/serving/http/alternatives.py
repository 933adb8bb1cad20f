"""Schemas of the API's document in forms that programs which generate clients can read."""

import sys
from typing import Any

from pydantic import BaseModel


def requests(one: dict[str, Any], max_items: int) -> dict[str, Any]:
    """The body of one request, or of a list of them.

    A request is an object where lists are taken, so exactly one of the two fits: `oneOf`. Of an `anyOf`, generators make
    one type with the fields of all alternatives.
    """
    # Each item is refused on its own, so a list with a bad one in it is still a request that gets 200.
    item = {"anyOf": [one, {"description": "Any other item gets an Error in its place."}]}
    return {
        "oneOf": [
            one,
            {"type": "array", "items": item, "minItems": 1, "maxItems": max_items, "title": "Several requests"},
        ]
    }


def answers(one: dict[str, Any], answer: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request, or to a list of them.

    Args:
        one: the reference to the schema of a response.
        answer: that schema.
        error: the reference to the schema of an error.
    """
    several = {"type": "array", "items": {"anyOf": [one, error]}, "minItems": 1, "title": "An answer for each request"}
    # A response may be a list itself, and then a list can fit both.
    return {"oneOf" if answer.get("type") == "object" else "anyOf": [one, several]}


def with_typed_nulls(schema: Any) -> Any:
    """A schema whose fields that are always null have a type beside null, which they never use.

    openapi-generator looks for a class of the name Null where a field has the type null alone.
    """
    if isinstance(schema, list):
        return [with_typed_nulls(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: with_typed_nulls(each) for name, each in schema.items()}
    properties = made.get("properties")
    if isinstance(properties, dict):
        for name, each in properties.items():
            if isinstance(each, dict) and each.get("type") == "null":
                properties[name] = {**each, "type": ["string", "null"], "const": None}
    return made


def file_answers(response: type[BaseModel]) -> dict[str, Any]:
    """The content of answers that are no JSON (`serving.http.files`)."""
    if "serving.types" not in sys.modules:
        return {}
    from serving.types.finding import only_content

    field = only_content(response)
    return {} if field is None else {field[1].answer_type: {}}
