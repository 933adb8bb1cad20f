"""OpenAI's requests become the model's, its answers OpenAI's, and every refusal has OpenAI's form."""

import base64
import json
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from examples.chat import model as chat
from examples.embeddings import model as embeddings
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from serving.errors import HttpError
from serving.http import openapi, routes
from serving.http.events import HttpRequest
from serving.http.openai import completions, refusals, vectors
from serving.http.openai.parameters import FIXED, WITHOUT_EFFECT, ChatCompletionRequest, EmbeddingsRequest
from serving.http.responses import Cors
from serving.http.service import Invocation, Reader
from serving.settings import Settings
from serving.telemetry.log import Log
from serving.telemetry.receipts import Receipt

HELLO = [{"role": "user", "content": "hello"}]
VERSION = "0123456789abcdef" * 4


class Talking:
    """A chat model that says the same words to everybody."""

    def stream(self, request: chat.Request, deadline: Callable[[], float] | None = None) -> Iterator[chat.Piece]:
        """Three pieces."""
        assert deadline is None or deadline() > 0
        usage = chat.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
        yield chat.Piece(text="Hi")
        yield chat.Piece(text=" there")
        yield chat.Piece(text="", finish_reason="deadline" if request.max_tokens == 1 else "stop", usage=usage)


class Embedding:
    """A model of embeddings that gives the lengths of the texts."""

    def predict(self, requests: list[embeddings.Request]) -> list[embeddings.Response]:
        """One vector a text."""
        return [embeddings.Response([[float(len(text)), 0.5] for text in each.texts]) for each in requests]

    def count_tokens(self, request: embeddings.Request) -> int:
        """A token a word."""
        return sum(len(text.split()) for text in request.texts)


def service(package: Any, model: Any) -> Any:
    """The parts of a service that these routes need, with a release that serves."""
    release = SimpleNamespace(model=model, version=VERSION, since=datetime(2026, 1, 2, tzinfo=UTC))

    @contextmanager
    def use(_key: Any) -> Iterator[Any]:
        yield release

    follower = SimpleNamespace(use=use, peek=lambda: release)
    return SimpleNamespace(
        settings=Settings(), model=package, follower=follower, cors=Cors(("*",)), log=Log("CRITICAL")
    )


CHAT, EMBEDDINGS = service(chat, Talking()), service(embeddings, Embedding())


def ask(where: Any, path: str, body: Any, method: str = "POST") -> tuple[int, Any]:
    """The status and the body of an answer, as a client gets them."""
    text = body if isinstance(body, str) else json.dumps(body)
    request = HttpRequest(method, path, body=text)
    try:
        response = routes.dispatch(where, request, Invocation(Receipt(), reader=Reader(lambda: 9.0, streams=True)))
    except HttpError as error:
        response = routes.failure(where, request, error)
    return response.status, json.loads(response.body)


def talk(**fields: Any) -> tuple[int, Any]:
    """The answer to a chat completion."""
    return ask(CHAT, "/v1/chat/completions", {"model": "chat", "messages": HELLO} | fields)


def test_a_chat_completion_has_openais_form() -> None:
    """The text, the reason and the counts are the model's, and the fingerprint names the release."""
    status, body = talk()
    assert status == 200
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    message = {"role": "assistant", "content": "Hi there", "refusal": None}
    assert body == {
        "object": "chat.completion",
        "model": "chat",
        "system_fingerprint": "fp_0123456789ab",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_deadline_is_a_length_for_openais_clients() -> None:
    """They know no such reason, so an answer that ends for want of time looks like one that ends for want of room."""
    assert talk(max_tokens=1)[1]["choices"][0]["finish_reason"] == "length"


def streamed(where: Any = CHAT, **fields: Any) -> list[Any]:
    """The data of a stream's events, and what ended it."""
    body = {"model": "chat", "messages": HELLO, "stream": True, **fields}
    invocation = Invocation(Receipt(), reader=Reader(lambda: 9.0, streams=True))
    request = HttpRequest("POST", "/v1/chat/completions", body=json.dumps(body))
    response = routes.dispatch(where, request, invocation)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert response.pieces is not None
    frames = b"".join(response.pieces).decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    texts = [frame.removeprefix("data: ") for frame in frames]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def test_a_stream_has_openais_chunks() -> None:
    """The role, a chunk a piece, the reason, and [DONE]; all with one id."""
    *chunks, done = streamed()
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)
    assert [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hi"}, None),
        ({"content": " there"}, None),
        ({}, "stop"),
    ]


def test_a_stream_has_the_counts_for_those_who_ask() -> None:
    """With include_usage, a last chunk without choices has them, and the others say that they have none."""
    *chunks, last, _ = streamed(stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert (last["choices"], last["usage"]) == ([], usage)


def test_a_stream_that_fails_ends_with_openais_error() -> None:
    """After its first piece, an error is an event, and there is no [DONE] after it."""

    class Failing(Talking):
        def stream(self, request: chat.Request, deadline: Any = None) -> Iterator[chat.Piece]:
            yield chat.Piece(text="Hi")
            raise RuntimeError(f"broken at {request.max_tokens}, {deadline()}")

    *_, last = streamed(service(chat, Failing()))
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "internal_error")
    assert "broken" not in last["error"]["message"]


def test_a_refused_stream_is_an_ordinary_error() -> None:
    """What is wrong before the first piece has its status, streamed or not."""

    class Full(Talking):
        def stream(self, request: chat.Request, deadline: Any = None) -> Iterator[chat.Piece]:
            assert deadline() > 0
            if request.messages is not None:
                raise PydanticCustomError("prompt_too_long", "The prompt is too long")
            yield chat.Piece(text="")

    for fields in ({}, {"stream": True}):
        body = {"model": "chat", "messages": HELLO, **fields}
        status, found = ask(service(chat, Full()), "/v1/chat/completions", body)
        assert (status, found["error"]["code"]) == (400, "prompt_too_long")


def test_a_chat_model_without_a_stream_is_a_defect() -> None:
    """The task promises it; what lacks is named for the log."""
    with pytest.raises(TypeError, match="no method stream"):
        ask(service(chat, object()), "/v1/chat/completions", {"model": "chat", "messages": HELLO})


def test_the_parameters_are_the_models_fields() -> None:
    """Roles, parts of texts, both names of the limit, and sampling arrive; null and what has no effect do not."""
    asked = ChatCompletionRequest.model_validate(
        {
            "model": "chat",
            "messages": [
                {"role": "developer", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
                {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": None, "annotations": []},
            ],
            "max_completion_tokens": 7,
            "temperature": 0,
            "top_p": 0.5,
            "seed": 3,
            "stop": ["x"],
            "user": "somebody",
            "n": 1,
            "tools": None,
        }
    )
    roles = (("system", "Be short."), ("user", "hello"), ("assistant", "Hi"))
    assert completions.model_request(asked, chat.Request) == chat.Request(
        messages=[chat.Message.model_validate({"role": role, "content": content}) for role, content in roles],
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        seed=3,
        stop=["x"],
    )
    plain = ChatCompletionRequest.model_validate({"model": "chat", "messages": HELLO, "max_tokens": 9})
    assert completions.model_request(plain, chat.Request).max_tokens == 9


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-4o"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "invalid_request", "model"),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"messages": [{"role": "user"}]}, 400, "invalid_request", "messages.0.content"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, 400, "invalid_request", "messages[0].role"),
        ({"messages": [*HELLO, {**HELLO[0], "name": "Bo"}]}, 400, "unsupported_parameter", "messages[1].name"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
            400,
            "unsupported_parameter",
            "messages[0].tool_calls",
        ),
        ({"max_completion_tokens": 0}, 400, "invalid_request", "max_completion_tokens"),
        ({"max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        ({"temperature": 3}, 400, "invalid_request", "temperature"),
        ({"temperature": "hot"}, 400, "invalid_request", "temperature"),
        ({"stop": ["x"] * 10_000}, 400, "invalid_request", "stop"),
        ({"n": 2}, 400, "unsupported_parameter", "n"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        ({"tempreature": 1}, 400, "unsupported_parameter", "tempreature"),
        ({"prompt": "hello"}, 400, "unsupported_parameter", "prompt"),
        ({"stream": "yes"}, 400, "invalid_request", "stream"),
    ],
)
def test_what_the_function_cannot_do_is_refused(fields: dict[str, Any], status: int, code: str, param: str) -> None:
    """A wrong or unknown parameter is refused by OpenAI's status and by the client's own name of it."""
    found, body = talk(**fields)
    assert found == status
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert error["param"].startswith(param)
    assert error["message"].startswith((param, "There is no model"))


def test_parameters_without_an_effect_are_taken() -> None:
    """What means what the function does anyway is no reason to refuse; so clients' defaults work."""
    without = dict.fromkeys(WITHOUT_EFFECT, "anything")
    assert talk(**without, **{name: value for name, (value, _) in FIXED.items()})[0] == 200
    assert talk(**dict.fromkeys((*FIXED, *WITHOUT_EFFECT, "temperature", "seed", "stream_options")))[0] == 200


def test_a_setting_that_the_model_lacks_is_refused() -> None:
    """A model whose request has no seed does not answer as if it had used it."""

    class Unseeded(BaseModel):
        messages: list[chat.Message]

    asked = ChatCompletionRequest.model_validate({"model": "chat", "messages": HELLO, "seed": 1})
    with pytest.raises(HttpError, match="no such setting") as caught:
        completions.model_request(asked, Unseeded)
    assert (caught.value.status, caught.value.details) == (400, {"param": "seed"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["model", "messages", "input", "stop", "seed", "stream", "encoding_format", "max_tokens", "stream_options", "n"]
)


@given(st.dictionaries(NAMES | st.text(max_size=8), JSON, max_size=5), st.booleans())
def test_whatever_comes_is_answered_in_openais_form(fields: dict[str, Any], valid: bool) -> None:
    """Any JSON is answered, or refused with a status of 4xx and the four keys of OpenAI's errors."""
    for where, path, whole in (
        (CHAT, "/v1/chat/completions", {"model": "chat", "messages": HELLO}),
        (EMBEDDINGS, "/v1/embeddings", {"model": "embeddings", "input": "hello"}),
    ):
        status, body = ask(where, path, {**whole, **fields, "stream": False} if valid else fields)
        assert status == 200 or body["error"].keys() == {"message", "type", "param", "code"}
        assert status in (200, 400, 404)


def test_embeddings_have_openais_form() -> None:
    """A text or a list of texts; vectors as numbers, or as base64 of float32."""
    status, body = ask(EMBEDDINGS, "/v1/embeddings", {"model": "embeddings", "input": ["one", "two words"]})
    assert (status, body) == (
        200,
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [3.0, 0.5]},
                {"object": "embedding", "index": 1, "embedding": [9.0, 0.5]},
            ],
            "model": "embeddings",
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        },
    )
    _, alone = ask(
        EMBEDDINGS, "/v1/embeddings", {"model": "embeddings", "input": "one", "encoding_format": "base64", "user": "me"}
    )
    assert struct.unpack("<2f", base64.b64decode(alone["data"][0]["embedding"])) == (3.0, 0.5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["fine", ""]}, "input[1]"),
        ({"input": [1, 2]}, "input"),
        ({"input": ["x"] * 65}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 8}, "dimensions"),
    ],
)
def test_embeddings_that_cannot_be_made_are_refused(fields: dict[str, Any], param: str) -> None:
    """By the client's own names: the model's field `texts` is its `input`."""
    status, body = ask(EMBEDDINGS, "/v1/embeddings", {"model": "embeddings", "input": "one"} | fields)
    assert status == 400
    assert body["error"]["param"].startswith(param)


def test_the_models_name_is_its_task() -> None:
    """GET /v1/models lists one model, whose name stays the same when a release changes."""
    status, body = ask(CHAT, "/v1/models", "", "GET")
    entry = {"id": "chat", "object": "model", "created": 1767312000, "owned_by": "lambda-torch"}
    assert (status, body) == (200, {"object": "list", "data": [entry]})


def test_errors_that_are_no_clients_fault_have_another_type() -> None:
    """500 and 503 are server errors, with headers such as Retry-After."""
    response = refusals.failure(HttpError(503, "no_release", "Nothing serves.", headers={"Retry-After": "5"}))
    assert (response.status, response.headers) == (503, {"Retry-After": "5"})
    error = {"message": "Nothing serves.", "type": "server_error", "param": None, "code": "no_release"}
    assert json.loads(response.body) == {"error": error}


@pytest.mark.parametrize("package", [chat, embeddings])
def test_a_model_has_the_routes_of_its_task(package: Any) -> None:
    """A chat model has no route for embeddings, and the other way round; each has the list of models."""
    found = {route.path for route in routes.routes_of(package) if route.tasks}
    own = "/v1/chat/completions" if package is chat else "/v1/embeddings"
    assert found == {own, "/v1/models"}


def test_vectors_of_a_large_byte_order_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """base64 has the least significant byte first, whatever the processor does."""
    asked = EmbeddingsRequest.model_validate({"model": "embeddings", "input": "x", "encoding_format": "base64"})
    here = vectors.answer(asked, [[1.5]], 1, "embeddings")["data"][0]["embedding"]
    monkeypatch.setattr(sys, "byteorder", "big")
    there = vectors.answer(asked, [[1.5]], 1, "embeddings")["data"][0]["embedding"]
    assert base64.b64decode(str(there)) == base64.b64decode(str(here))[::-1]


@pytest.mark.parametrize("package", [chat, embeddings])
def test_the_document_describes_the_routes(package: Any) -> None:
    """With these routes the document is valid OpenAPI, and a real answer has the form that it describes."""
    rows = routes.routes_of(package)
    document = openapi.document(package.Request, package.Response, None, 100, rows)
    validate(document)
    own = next(row for row in rows if row.tasks and row.method == "POST")
    operation = document["paths"][own.path]["post"]
    where, body = (
        (CHAT, {"model": "chat", "messages": HELLO})
        if package is chat
        else (EMBEDDINGS, {"model": "embeddings", "input": "hello"})
    )
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    check = Draft202012Validator({**schema, "components": document["components"]})
    check.validate(ask(where, own.path, body)[1])
    refusal = operation["responses"]["400"]["content"]["application/json"]["schema"]
    Draft202012Validator({**refusal, "components": document["components"]}).validate(ask(where, own.path, {})[1])
