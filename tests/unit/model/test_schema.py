"""What is a request at all, before any release is asked."""

import json

import pytest
from pydantic import ValidationError

from model import Request, Response

VALID = {"category": "Russian", "start_letters": "RUS"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": None, "seed": None},
        {"temperature": 2},
        {"temperature": 1e-9},
        {"temperature": 1.0, "seed": 0},
        {"temperature": 1, "seed": 7.0},
    ],
)
def test_good_requests_are_accepted(more: dict[str, object]) -> None:
    """A temperature of at most 2, whole or not, and a seed that goes with one."""
    assert Request.model_validate_json(json.dumps(VALID | more)).category == "Russian"


@pytest.mark.parametrize(
    ("more", "place", "kind"),
    [
        ({"category": 1}, "category", "string_type"),
        ({"category": True}, "category", "string_type"),
        ({"start_letters": ["R"]}, "start_letters", "string_type"),
        ({"temperature": 0}, "temperature", "greater_than"),
        ({"temperature": 2.0001}, "temperature", "less_than_equal"),
        ({"temperature": float("nan")}, "temperature", "finite_number"),
        ({"temperature": float("inf")}, "temperature", "finite_number"),
        ({"temperature": "1"}, "temperature", "float_type"),
        ({"temperature": True}, "temperature", "float_type"),
        ({"temperature": 1, "seed": -1}, "seed", "greater_than_equal"),
        ({"temperature": 1, "seed": 2**63}, "seed", "less_than"),
        ({"temperature": 1, "seed": 10**40}, "seed", "less_than"),
        ({"temperature": 1, "seed": 1.5}, "seed", "int_type"),
        ({"temperature": 1, "seed": False}, "seed", "int_type"),
        ({"temprature": 1}, "temprature", "extra_forbidden"),
    ],
)
def test_bad_requests_name_the_place_and_the_kind(more: dict[str, object], place: str, kind: str) -> None:
    """Nothing is coerced, unknown keys are errors, and each error says where it is."""
    with pytest.raises(ValidationError) as caught:
        Request.model_validate_json(json.dumps(VALID | more))
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [((place,), kind)]


def test_a_seed_needs_a_temperature() -> None:
    """A seed that could change nothing is refused, with what to do about it."""
    with pytest.raises(ValidationError, match="give a temperature") as caught:
        Request.model_validate(VALID | {"seed": 1})
    assert caught.value.errors()[0]["type"] == "seed_without_temperature"


def test_every_field_is_documented_with_examples() -> None:
    """The JSON schema, which pages and forms are made from, has a description and an example for every field."""
    schema = Request.model_json_schema()
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert field["examples"], name
    assert all(Request.model_validate(example) for example in schema["examples"])
    assert Response.model_json_schema()["examples"]
