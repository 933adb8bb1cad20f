"""OpenAI's own client against the running function: chat, in pieces and not, embeddings, the list of models, and errors."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from examples.chat.model import Message, Model, Request, Response

from integration.emulator.conftest import wait_until
from integration.examples.conftest import EXAMPLE
from integration.examples.test_served import served
from lambda_torch import project
from unit.chat import tiny

CHAT = project.ROOT / "examples" / "chat"
QUESTION = "hello world"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of a tiny random chat model: what it says has no sense, and is always the same."""
    folder = tmp_path_factory.mktemp("tiny")
    return tiny.write_tiny_release(
        folder / "release", tiny.write_folder(folder / "folder", tiny.random_weights()), "bf16"
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `serve` and the function say."""
    return tmp_path_factory.mktemp("serve") / "log"


@pytest.fixture(scope="module")
def address(release: Path, log: Path) -> Iterator[str]:
    """Where that model is served."""
    with served(log, release, "--model", str(CHAT), "--verbose") as (running, _):
        yield running.url.removesuffix("/predict")


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    """A client of it, which does not try again."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="not needed here", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def expected(release: Path) -> Response:
    """What the model itself answers."""
    request = Request(messages=[Message(role="user", content=QUESTION)], max_tokens=24, temperature=0)
    (response,) = Model.load(release).predict([request])
    return response


def ask(client: openai.OpenAI, **more: Any) -> Any:
    """The same question to the same model."""
    return client.chat.completions.create(
        **{
            "model": "chat",
            "messages": [{"role": "user", "content": QUESTION}],
            "max_completion_tokens": 24,
            "temperature": 0,
            **more,
        }
    )


def test_a_chat_completion(client: openai.OpenAI, expected: Response) -> None:
    """The client reads the model's answer, its reason and its counts; the answer can go back as a message."""
    found = ask(client)
    assert found.choices[0].message.content == expected.message.content
    assert found.choices[0].finish_reason == expected.finish_reason
    assert found.usage.model_dump(exclude_none=True) == expected.usage.model_dump()
    assert found.model == "chat"
    again = [{"role": "user", "content": QUESTION}, found.choices[0].message, {"role": "user", "content": "hello"}]
    for message in (found.choices[0].message, found.choices[0].message.model_dump()):
        again[1] = message
        assert ask(client, messages=again).choices[0].finish_reason in ("stop", "length")


def test_a_streamed_chat_completion(client: openai.OpenAI, expected: Response) -> None:
    """The pieces are the same answer, and the last chunk has the counts."""
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected.message.content
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 3
    assert chunks[-2].choices[0].finish_reason == expected.finish_reason
    assert chunks[-1].usage.model_dump(exclude_none=True) == expected.usage.model_dump()


def test_a_client_that_has_read_enough_ends_the_answer(client: openai.OpenAI, log: Path) -> None:
    """The first piece is there before the last one is made: a client that goes then ends the model's work."""
    stream = ask(client, stream=True, max_completion_tokens=400)
    first = next(iter(stream))
    stream.close()
    assert first.choices[0].delta.role == "assistant"
    assert wait_until(lambda: '"ended":"client_gone"' in log.read_text(), 60)
    assert ask(client, max_completion_tokens=1).usage.completion_tokens == 1


def test_the_clients_helper_for_streams(client: openai.OpenAI, expected: Response) -> None:
    """The client's own collector of chunks makes the whole answer of them, up to a stop text."""
    text = expected.message.content
    stop = text[-2:]
    with client.chat.completions.stream(
        model="chat",
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=24,
        temperature=0,
        stop=stop,
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == text.partition(stop)[0]


def test_the_list_of_models(client: openai.OpenAI) -> None:
    """One model, by the name that requests use."""
    assert [model.id for model in client.models.list()] == ["chat"]


@pytest.mark.parametrize(
    ("more", "kind", "code", "param"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found", "model"),
        (
            {"messages": [{"role": "user", "content": "word " * 500}]},
            openai.BadRequestError,
            "prompt_too_long",
            None,
        ),
        ({"messages": [{"role": "oracle", "content": "hi"}]}, openai.BadRequestError, "invalid_request", "messages[0]"),
        ({"stop": ["x"] * 10_000}, openai.BadRequestError, "invalid_request", "stop"),
        ({"n": 3}, openai.BadRequestError, "unsupported_parameter", "n"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_are_the_clients_exceptions(
    client: openai.OpenAI,
    more: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    """Before the first piece each refusal has its status, streamed or not; and the function goes on."""
    with pytest.raises(kind) as caught:
        ask(client, stream=stream, **more)
    assert caught.value.code == code
    assert (caught.value.param or "").startswith(param or "")
    assert ask(client, max_completion_tokens=1).usage.completion_tokens == 1


def test_a_chat_model_has_no_embeddings(client: openai.OpenAI, address: str) -> None:
    """The route is another task's: it is unknown, and the API's document does not have it."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="chat", input="hello")
    assert caught.value.code == "no_such_route"
    paths = requests.get(f"{address}/openapi.json", timeout=60).json()["paths"]
    assert {"/v1/chat/completions", "/v1/models"} <= set(paths)
    assert "/v1/embeddings" not in paths


def test_embeddings(embeddings_release: Path, tmp_path: Path) -> None:
    """As numbers and as base64 the client gets the vectors of /predict, with the counts of tokens."""
    texts = ["A man is eating food.", "A man eats a piece of bread."]
    with served(tmp_path / "log", embeddings_release, "--model", str(EXAMPLE)) as (running, _):
        address = re.sub("/predict$", "/v1", running.url)
        vectors = requests.post(running.url, json={"texts": texts}, timeout=60).json()
        with openai.OpenAI(base_url=address, api_key="not needed here", max_retries=0, timeout=60) as client:
            plain = client.embeddings.create(model="embeddings", input=texts, encoding_format="float")
            packed = client.embeddings.create(model="embeddings", input=texts)
            assert [model.id for model in client.models.list()] == ["embeddings"]
            with pytest.raises(openai.NotFoundError):
                ask(client)
            with pytest.raises(openai.BadRequestError) as caught:
                client.embeddings.create(model="embeddings", input=[""])
            assert caught.value.param == "input[0]"
    assert [each.embedding for each in plain.data] == vectors
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 8 + 10
    for one, other in zip(packed.data, vectors, strict=True):
        assert one.embedding == pytest.approx(other, abs=1e-7)
