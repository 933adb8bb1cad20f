"""The API as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1).

It is made of the table of routes and the model's own types.

Powertools can generate such documents too, but it describes only routes whose bodies it parses itself. Here
`serving.http.validation` reads the bodies.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.contract import ServedModel
from serving.http import alternatives, pieces_schema, validation
from serving.http.service import Route

# The version of this HTTP interface, not of the model's types: it grows when something changes that clients rely on.
API_VERSION = "1"

# An example may hold a file, and each reader of the document would fetch it: larger ones stay out.
MAX_EXAMPLE_CHARACTERS = 256 * 1024

# The name of the schema of a request as a form.
FORM_SCHEMA = "RequestForm"

# Status to when it is the answer, as docs/api.md says it. The function's own refusals all have the form `Error`.
REFUSALS = {
    "400": "The request cannot be read, or the model does not accept it. The message says what to change.",
    "404": "There is no such route, or the model takes no uploads.",
    "405": "The route does not have this method. The Allow header lists its methods.",
    "413": "The body is larger than MAX_BODY_BYTES.",
    "415": "The body has a type that is not taken. The message and the header Accept name those that are.",
    "500": "A defect. The function's log has its cause under the request id.",
    "503": "There is no usable release yet. The message says why. Retry-After says when to ask again, in seconds.",
}
# API Gateway's refusals never reach the function; they have the form `GatewayError`.
GATEWAY_REFUSALS = {
    "403": "API Gateway: the caller may not use this API, or the key is missing.",
    "429": "API Gateway or Lambda: more requests than the limits allow; try again later.",
    "502": "API Gateway: the function gave no usable answer.",
    "504": "API Gateway: no answer in time.",
}

_ERROR = {
    "type": "object",
    "title": "Error",
    "description": "Why a request is refused.",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "description": "For programs. It does not change."},
                "message": {
                    "type": "string",
                    "description": "For people: the cause and, if there is one, the next step.",
                },
                "details": {"type": "object", "description": "Facts, such as which letters are unknown."},
            },
        }
    },
    "examples": [{"error": {"code": "invalid_json", "message": "The body is not JSON.", "details": {}}}],
}
_GATEWAY_ERROR = {
    "type": "object",
    "title": "GatewayError",
    "description": "A refusal by API Gateway itself.",
    "properties": {"message": {"type": ["string", "null"]}},
}
_UPLOAD = {
    "type": "object",
    "title": "Upload",
    "description": "Room for one file. Send a form to the URL by POST: all of the fields, and then the file as `file`.",
    "required": ["upload", "url", "fields", "max_bytes", "expires"],
    "properties": {
        "upload": {"type": "string", "description": 'The id, which a request names: {"upload": "<id>"}.'},
        "url": {"type": "string", "format": "uri"},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
        "max_bytes": {"type": "integer"},
        "expires": {"type": "string", "format": "date-time"},
    },
}
_HEALTH = {
    "type": "object",
    "title": "Health",
    "description": "Which release answers, and since when.",
    "required": ["status", "release", "since", "channel", "refresh"],
    "properties": {
        "status": {"const": "ok"},
        "release": {"type": "string", "description": "The release's version: the SHA-256 of its content."},
        "since": {"type": "string", "format": "date-time"},
        "channel": {"type": "string"},
        "refresh": {"type": "object", "description": "What this environment did so far to follow the channel."},
    },
}


def document(
    request: type[BaseModel],
    response: type[BaseModel],
    model: ServedModel | None,
    max_batch_items: int,
    routes: Iterable[Route],
    stream: Callable[..., object] | None = None,
) -> dict[str, Any]:
    """The document.

    Args:
        request: the model's `Request`.
        response: the model's `Response`.
        model: the loaded model, which may add what only its release knows (`hints`, `example`); None without one.
        max_batch_items: most requests in one list.
        routes: the model's rows of the table of routes (`serving.http.routes.routes_of`).
        stream: the model's method of that name, if it has one.
    """
    pieces = [] if stream is None else pieces_schema.piece_models(stream)
    written: list[tuple[type[BaseModel], JsonSchemaMode]] = [(each, "serialization") for each in (response, *pieces)]
    references, definitions = models_json_schema(
        [(request, "validation"), *written], ref_template="#/components/schemas/{model}"
    )
    schemas = definitions["$defs"]
    streamed: dict[str, Any] = {}
    if stream is not None:
        streamed = pieces_schema.contents(stream, {each: references[each, "serialization"] for each in pieces})
        schemas["StreamEnd"] = pieces_schema.END
    takes, gives = references[request, "validation"], references[response, "serialization"]
    items = max_batch_items if validation.takes_lists(request) else None
    _add_knowledge(schemas[_name(takes)], model)
    routes = tuple(routes)
    if any(route.tasks for route in routes):
        from serving.http.openai import description  # most models have none of OpenAI's routes

        schemas |= description.schemas({route.name for route in routes})
    schemas |= {"Error": _ERROR, "GatewayError": _GATEWAY_ERROR, "Health": _HEALTH, "Upload": _UPLOAD}
    bodies = _other_bodies(request, schemas)
    schemas = {name: alternatives.with_typed_nulls(each) for name, each in schemas.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lambda-torch",
            "version": API_VERSION,
            "description": "A PyTorch model on AWS Lambda. X-Model-Version of a success names the release that answered.",
        },
        # Relative to this document's own address, so that it holds behind a stage or a mapped path too.
        "servers": [{"url": ".", "description": "The address of this document"}],
        "tags": [
            {"name": "model", "description": "Requests to the model"},
            {"name": "service", "description": "About this deployment"},
            {"name": "preflights", "description": "Requests that a browser sends before it calls from another origin"},
        ],
        "paths": _paths(
            routes,
            takes,
            gives,
            schemas[_name(gives)],
            items,
            bodies,
            {**streamed, **alternatives.file_answers(response)},
        ),
        "components": {
            "schemas": schemas,
            "responses": {
                **_responses(REFUSALS, "Error"),
                **_responses(GATEWAY_REFUSALS, "GatewayError"),
            },
            "headers": {"X-Model-Version": _RELEASE, "Server-Timing": _TIMING},
        },
    }


_RELEASE = {"description": "The version of the release that answered.", "schema": {"type": "string"}}
_TIMING = {"description": "The time of the answer, phase by phase, in milliseconds.", "schema": {"type": "string"}}

_HEADERS = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Model-Version", "Server-Timing")}

# What a GET answers, by the route's name: the type of the content, its schema, and the statuses of its refusals beside
# 500.
_GETS: Mapping[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "health": ("application/json", {"$ref": "#/components/schemas/Health"}, ("503",)),
    "openapi": ("application/json", {"type": "object"}, ()),
    "docs": ("text/html", {"type": "string"}, ()),
    "page": ("text/html", {"type": "string"}, ()),
}


def _paths(
    routes: Iterable[Route],
    takes: dict[str, Any],
    gives: dict[str, Any],
    answer: dict[str, Any],
    max_items: int | None,
    bodies: Mapping[str, Any],
    answers: Mapping[str, Any],
) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        operations = paths.setdefault(route.path, {})
        if route.tasks:
            operation = _of_task(route)
        elif route.name == "upload":
            operation = _upload(route)
        elif route.method == "GET":
            operation = _get(route)
        else:
            operation = _post(route, takes, gives, answer, max_items)
            operation["requestBody"]["content"] |= bodies
            operation["responses"]["200"]["content"] |= answers
        operations[route.method.lower()] = operation
        if route.preflight:
            operations["options"] = _preflight(route.path)
    return paths


def _other_bodies(request: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    """The content of bodies that are no JSON (`serving.http.bodies`), where the request has fields with bytes.

    The schema of a form is added to `schemas`.
    """
    if "serving.types" not in sys.modules:
        return {}
    from serving.http import bodies
    from serving.types.finding import content_fields

    fields = content_fields(request)
    types = bodies.taken(request)[1:]
    if not fields:
        return {}
    schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
    properties = {
        name: {"contentMediaType": fields[name].media_types[0]} if name in fields else each
        for name, each in schema["properties"].items()
    }
    form = {"type": "object", "properties": properties, "required": schema.get("required", [])}
    if bodies.FORM in types:
        # By its name: generators give schemas without one names that they then do not find again.
        schemas[FORM_SCHEMA] = {"title": FORM_SCHEMA, "description": "A request as a form.", **form}
    # The file itself: a body without a schema is bytes (OpenAPI 3.1, "Considerations for File Uploads").
    return {each: {"schema": _schema(FORM_SCHEMA)} if each == bodies.FORM else {} for each in types}


def _upload(route: Route) -> dict[str, Any]:
    return {
        "operationId": route.name,
        "tags": ["model"],
        "summary": route.summary,
        "description": "For models whose request has a field that holds a file. Others answer 404.",
        "responses": {
            "200": _answer("Where to send the file", "application/json", _schema("Upload")),
            **_refusals("404", "500", "503"),
        },
    }


def _add_knowledge(schema: dict[str, Any], model: ServedModel | None) -> None:
    """Add to the request's schema what only the loaded release knows."""
    hints = getattr(model, "hints", None)
    properties = schema.get("properties", {})
    for field, keywords in (hints() if hints is not None else {}).items():
        if field not in properties:
            raise ValueError(f"Model.hints names {field!r}, which is no field of the request")
        properties[field].update(keywords)
    example = getattr(model, "example", None)
    if example is not None and "examples" not in schema:
        text = example().model_dump_json(exclude_unset=True)
        if len(text) <= MAX_EXAMPLE_CHARACTERS:
            schema["examples"] = [json.loads(text)]


def _post(
    route: Route, takes: dict[str, Any], gives: dict[str, Any], answer: dict[str, Any], max_items: int | None
) -> dict[str, Any]:
    description = "Takes one request and gives its response."
    if max_items is not None:
        description = (
            "One request gets its response; a list of requests gets a list of as many responses and errors, in order."
        )
        takes = alternatives.requests(takes, max_items)
        gives = alternatives.answers(gives, answer, _schema("Error"))
    return {
        "operationId": route.name,
        "tags": ["model"],
        "summary": route.summary,
        "description": description,
        "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
        "responses": {
            "200": _answer("The response", "application/json", gives),
            **_refusals("400", "413", "415", "500", "503"),
        },
    }


def _get(route: Route) -> dict[str, Any]:
    kind, schema, refusals = _GETS[route.name]
    answers = {"200": _answer(route.summary, kind, schema), **_refusals(*refusals, "500")}
    return {"operationId": route.name, "tags": ["service"], "summary": route.summary, "responses": answers}


def _of_task(route: Route) -> dict[str, Any]:
    from serving.http.openai import description

    operation = description.operation(route.name)
    success = {"description": "The answer", "headers": _HEADERS, **operation["responses"].pop("200")}
    answers = {"200": success, **operation.pop("responses"), **_refusals()}
    return {"operationId": route.name, "tags": ["model"], "summary": route.summary, **operation, "responses": answers}


def _preflight(path: str) -> dict[str, Any]:
    allowed = {"description": "The methods of this route.", "schema": {"type": "string"}}
    answers = {"204": {"description": "What is allowed", "headers": {"Access-Control-Allow-Methods": allowed}}}
    return {
        "operationId": f"preflight{''.join(part.capitalize() for part in path.split('/')) or 'Root'}",
        "tags": ["preflights"],
        "summary": "A browser's preflight",
        "responses": answers | _refusals("500"),
    }


def _answer(description: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _HEADERS,
        "content": {kind: {"schema": schema}},
    }


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in sorted({*statuses, *GATEWAY_REFUSALS})}


def _responses(refusals: Mapping[str, str], schema: str) -> dict[str, Any]:
    return {
        status: {"description": text, "content": {"application/json": {"schema": _schema(schema)}}}
        for status, text in refusals.items()
    }


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _name(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]
