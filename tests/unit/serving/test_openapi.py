"""The API's document: valid, the same as the committed copy, and complete."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import BaseModel, RootModel

import model
from lambda_torch.project import ROOT
from model import Request, Response
from serving.http import openapi
from serving.http.routes import routes_of

ROUTES = routes_of(model)


class Texts(RootModel[list[str]]):
    """Texts, alone."""


class Point(BaseModel):
    """A place."""

    x: float
    colour: str


class Hinting:
    """A model with everything that is optional."""

    def predict(self, requests: list[Point]) -> list[Texts]:
        """Not called here."""
        raise NotImplementedError

    def hints(self) -> dict[str, dict[str, Any]]:
        """What only a release knows."""
        return {"colour": {"enum": ["red", "green"]}}

    def example(self) -> Point:
        """A request."""
        return Point(x=1.5, colour="red")


def test_the_committed_copy_is_current() -> None:
    """docs/openapi.json is what the sample model's code gives. Next, if not: lambda-torch openapi --output docs/openapi.json."""
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert committed == openapi.document(Request, Response, None, 100, ROUTES)


@pytest.mark.parametrize(("request_type", "response_type"), [(Request, Response), (Texts, Texts), (Point, Texts)])
def test_the_document_is_valid(request_type: type[BaseModel], response_type: type[BaseModel]) -> None:
    """The OpenAPI 3.1 schema accepts it, whatever the model's types."""
    validate(openapi.document(request_type, response_type, None, 100, ROUTES))


def test_a_release_adds_what_it_knows() -> None:
    """Hints become keywords of their fields, and the model's example the schema's, where it has none."""
    document = openapi.document(Point, Texts, Hinting(), 100, ROUTES)
    schema = document["components"]["schemas"]["Point"]
    assert schema["properties"]["colour"] == {"title": "Colour", "type": "string", "enum": ["red", "green"]}
    assert schema["examples"] == [{"x": 1.5, "colour": "red"}]
    validate(document)


def test_a_hint_for_no_field_is_an_error() -> None:
    """A misspelt field is not silently ignored."""

    class Misspelt(Hinting):
        def hints(self) -> dict[str, dict[str, Any]]:
            return {"color": {"enum": ["red"]}}

    with pytest.raises(ValueError, match="color"):
        openapi.document(Point, Texts, Misspelt(), 100, ROUTES)


def test_lists_are_documented_where_they_are_taken() -> None:
    """A request that is an object may come in a list with the cap on it; one that is a list itself comes alone."""

    def body(kind: type[BaseModel]) -> Any:
        predict = openapi.document(kind, Texts, None, 7, ROUTES)["paths"]["/predict"]["post"]
        return predict["requestBody"]["content"]["application/json"]["schema"]

    assert body(Point)["oneOf"][1]["maxItems"] == 7
    assert body(Texts) == {"$ref": "#/components/schemas/Texts"}


class Empty(BaseModel):
    """A response with a field that is always null."""

    nothing: None = None
    items: list["Empty"] = []


@pytest.mark.parametrize(("response", "kind"), [(Empty, "oneOf"), (Texts, "anyOf")])
def test_one_answer_and_several_are_told_apart(response: type[BaseModel], kind: str) -> None:
    """An answer that is an object fits exactly one alternative; one that is a list may fit both."""
    document = openapi.document(Point, response, None, 7, ROUTES)
    validate(document)
    content = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    assert list(content["application/json"]["schema"]) == [kind]


def test_a_field_that_is_always_null_takes_nothing_else() -> None:
    """Its schema has a type that generators know, and means the same."""
    schemas = openapi.document(Point, Empty, None, 7, ROUTES)["components"]["schemas"]
    rules = Draft202012Validator({**schemas["Empty"], "components": {"schemas": schemas}})
    assert schemas["Empty"]["properties"]["nothing"]["type"] == ["string", "null"]
    assert rules.is_valid({"nothing": None, "items": [{"nothing": None, "items": []}]})
    assert not rules.is_valid({"nothing": "text", "items": []})
    assert not rules.is_valid({"nothing": None, "items": [{"nothing": "", "items": []}]})


class Talking(Hinting):
    """A model that answers in pieces."""

    def stream(self, request: Point) -> Iterator[Point | str]:
        """Not called here."""
        raise NotImplementedError


def test_answers_in_pieces_are_described() -> None:
    """A model with `stream` has two more media types on each of its routes, with the type of a piece; others have none."""
    document = openapi.document(Point, Texts, None, 100, ROUTES, Talking.stream)
    validate(document)
    for path in ("/predict", "/"):
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        assert list(content) == ["application/json", "text/event-stream", "application/x-ndjson"]
        piece = content["text/event-stream"]["schema"]["contentSchema"]
        named, text = piece["anyOf"]
        assert document["components"]["schemas"][named["$ref"].rpartition("/")[2]]["title"] == "Point"
        assert text == {"type": "string"}
        line = content["application/x-ndjson"]["schema"]["contentSchema"]
        assert (line["properties"]["piece"], set(line["properties"])) == (piece, {"piece", "end", "error"})
    assert "StreamEnd" in document["components"]["schemas"]
    plain = openapi.document(Point, Texts, None, 100, ROUTES)
    assert list(plain["paths"]["/"]["post"]["responses"]["200"]["content"]) == ["application/json"]
    assert "StreamEnd" not in plain["components"]["schemas"]


@pytest.mark.parametrize(
    ("returned", "wanted"),
    [(Iterator[str], {"type": "string"}), (list, {}), ("Iterator[Missing]", {}), (Iterator[Any], {})],
)
def test_any_annotation_of_stream_gives_a_document(returned: Any, wanted: dict[str, Any]) -> None:
    """Text pieces are strings, and where the annotation says nothing a piece may be anything."""

    def stream(request: Point) -> Any:
        raise NotImplementedError

    stream.__annotations__["return"] = returned
    document = openapi.document(Point, Texts, None, 100, ROUTES, stream)
    validate(document)
    content = document["paths"]["/"]["post"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"]["contentSchema"] == wanted
