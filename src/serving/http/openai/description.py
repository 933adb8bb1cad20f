"""OpenAI's routes for the API's document: what each takes and gives."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from serving.http.openai import answers, parameters

TEMPLATE = "#/components/schemas/{model}"


class Exchange(NamedTuple):
    """What a route takes and gives.

    Attributes:
        takes: the type of the body; None without one.
        gives: the type of the answer.
        streams: the type of one event, where an answer may come in events; None elsewhere.
        refusals: the statuses of its refusals, beside 500 and 503.
    """

    takes: Any
    gives: Any
    streams: Any
    refusals: tuple[str, ...]

    def kinds(self) -> Iterator[tuple[Any, JsonSchemaMode]]:
        """Each type, and whether the function reads or writes it."""
        if self.takes is not None:
            yield self.takes, "validation"
        yield self.gives, "serialization"
        if self.streams is not None:
            yield self.streams, "serialization"


# By the route's name.
EXCHANGES = {
    "chatCompletions": Exchange(
        parameters.ChatCompletionRequest,
        answers.ChatCompletion,
        answers.ChatCompletionChunk,
        ("400", "404", "413"),
    ),
    "embeddings": Exchange(parameters.EmbeddingsRequest, answers.EmbeddingList, None, ("400", "404", "413")),
    "models": Exchange(None, answers.ModelList, None, ()),
}


def schemas(names: set[str]) -> dict[str, Any]:
    """The schemas of these routes' types, by name, and of their errors."""
    exchanges = [EXCHANGES[name] for name in sorted(names & EXCHANGES.keys())]
    wanted = [(kind, mode, TypeAdapter[Any](kind)) for exchange in exchanges for kind, mode in exchange.kinds()]
    if not wanted:
        return {}
    _, definitions = TypeAdapter.json_schemas(wanted, ref_template=TEMPLATE)
    return {**definitions["$defs"], "OpenAIError": _ERROR}


def operation(name: str) -> dict[str, Any]:
    """The body, the success and the refusals of a route, as an operation of the document has them."""
    exchange = EXCHANGES[name]
    content = {"application/json": {"schema": _reference(exchange.gives)}}
    if exchange.streams is not None:
        text = "With `stream: true`: server-sent events. The data of each is a chunk, and of the last one `[DONE]`."
        content["text/event-stream"] = {"schema": {"type": "string", "description": text}}
    found = {"responses": {"200": {"content": content}, **dict.fromkeys((*exchange.refusals, "500", "503"), _REFUSAL)}}
    if exchange.takes is None:
        return found
    body = {"required": True, "content": {"application/json": {"schema": _reference(exchange.takes)}}}
    return {"requestBody": body, **found}


def _reference(kind: Any) -> dict[str, Any]:
    return {"$ref": TEMPLATE.format(model=kind.__name__)}


_ERROR = {
    "type": "object",
    "title": "OpenAIError",
    "description": "Why a request is refused, in OpenAI's form.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"], "description": "The parameter that is wrong, if it is one."},
                "code": {"type": "string", "description": "For programs. It does not change."},
            },
        }
    },
}
_REFUSAL = {
    "description": "An error in OpenAI's form.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
}
