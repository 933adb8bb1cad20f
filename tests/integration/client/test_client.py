"""The client for Python against the running service: answers, pieces, retries, uploads, errors, and who goes away."""

import io
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
import requests

from integration.client.conftest import Gate
from integration.emulator.conftest import wait_until
from lambda_torch.emulator.storage import CREDENTIALS
from lambda_torch.project import ROOT
from lambda_torch_client import (
    AccessError,
    ApiError,
    AsyncClient,
    BearerToken,
    Client,
    DefectError,
    ModelServiceError,
    RequestError,
    RetryRules,
    SigV4,
    StreamError,
    ThrottledError,
    UnavailableError,
    UnreachableError,
    UploadError,
    data_url,
    from_data_url,
)

QUICK = RetryRules(first_pause=0.01)
THROTTLED = (429, {"content-type": "application/json"}, b'{"message": "Too Many Requests"}')
SOON = (
    503,
    {"Retry-After": "0"},
    b'{"error": {"code": "no_release", "message": "None. Next: publish one.", "details": {}}}',
)
REFUSED: tuple[int, dict[str, str], bytes] = (
    503,
    {},
    b'{"error": {"code": "no_bucket", "message": "No bucket. Next: set MODEL_BUCKET.", "details": {}}}',
)


@pytest.fixture
def client(reader_url: str) -> Iterator[Client]:
    """A client of the reader."""
    with Client(reader_url) as made:
        yield made


def in_task(url: str, work: Callable[[AsyncClient], Awaitable[Any]], backend: str = "asyncio", **options: Any) -> Any:
    """What `work` gives, in a task with a client of its own."""

    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return await work(client)

    return anyio.run(run, backend=backend)


def test_an_answer_and_what_its_headers_say(client: Client) -> None:
    """The value is the model's; release, times and the request's id come with it, and /health names the same release."""
    assert client.predict({"words": ["a", "b"]}) == {"text": "a b", "size": None}
    answer = client.answer({"words": ["a"], "again": 2})
    assert answer.value["text"] == "a a"
    assert answer.release == client.health()["release"]
    assert answer.timing["total"] > 0
    assert answer.request_id


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_client_for_tasks_gives_the_same(client: Client, reader_url: str, backend: str, tmp_path: Path) -> None:
    """Every method of the one gives what the other gives, on asyncio and on trio."""
    many = [{"words": ["a"]}, {"words": ["never"]}, {"words": ["b"]}]
    (tmp_path / "paper").write_bytes(b"x" * 10)

    async def ask(tasks: AsyncClient) -> Any:
        async with tasks.stream({"words": ["a", "b"]}) as pieces:
            streamed = [piece["text"] async for piece in pieces]
        listed = [each["text"] if isinstance(each, dict) else each.code for each in await tasks.predict_many(many)]
        sent = await tasks.predict({"words": [], "paper": await tasks.upload(tmp_path / "paper")})
        return (
            streamed,
            pieces.end and pieces.end.pieces,
            listed,
            sent["size"],
            await tasks.openapi(),
            await tasks.health(),
        )

    found = in_task(reader_url, ask, backend)
    listed = ["a", "not_said", "b"]
    assert found[:4] == (["a", "b"], 2, listed, 10)
    assert [each["text"] if isinstance(each, dict) else each.code for each in client.predict_many(many, 2)] == listed
    assert found[4]["paths"] == client.openapi()["paths"]
    assert found[5]["release"] == client.health()["release"]


@pytest.mark.parametrize("form", ["events", "lines"])
def test_pieces_arrive_and_end(client: Client, form: Any) -> None:
    """Both forms give the same pieces, whatever characters are in them, and the end with its figures."""
    words = ["\u2028", 'data: "x"', "\r\n\n", "\x85é𝄞", ""]
    with client.stream({"words": words}, form) as pieces:
        assert [piece["text"] for piece in pieces] == words
    assert pieces.end is not None
    assert (pieces.end.finish_reason, pieces.end.pieces) == ("stop", len(words))
    assert pieces.release == client.health()["release"]


def test_who_leaves_a_stream_ends_the_models_work(client: Client, reader_url: str, tmp_path: Path) -> None:
    """The generator is closed when a block is left, and when a task is cancelled; the service then answers others."""
    endless = {"words": ["x" * 1000], "again": 10**9}
    with client.stream({**endless, "diary": str(tmp_path / "left")}) as pieces:
        next(iter(pieces))
    assert wait_until((tmp_path / "left").exists)

    async def cancelled(tasks: AsyncClient) -> int:
        count = 0
        with anyio.move_on_after(1):
            async with tasks.stream({**endless, "diary": str(tmp_path / "cancelled")}) as pieces:
                async for _ in pieces:
                    count += 1
        return count

    assert in_task(reader_url, cancelled) > 1
    assert wait_until((tmp_path / "cancelled").exists)
    assert client.predict({"words": ["a"]})["text"] == "a"


def test_an_error_after_the_first_piece_has_its_code(client: Client) -> None:
    """The pieces before it were given, and the exception is the same as for a whole answer."""
    with client.stream({"words": ["a", "defect"]}) as pieces:
        given = iter(pieces)
        assert next(given)["text"] == "a"
        with pytest.raises(DefectError) as caught:
            next(given)
    assert caught.value.code == "internal_error"


def test_refusals_have_code_next_step_and_details(client: Client, reader_url: str) -> None:
    """The model's own refusal, an invalid request, a defect, and an address without such an API; none is sent twice."""
    with pytest.raises(RequestError) as refused:
        client.predict({"words": ["never"]})
    assert (refused.value.status, refused.value.code, refused.value.details) == (400, "not_said", {"word": "never"})
    with pytest.raises(RequestError) as invalid:
        client.predict({"words": "a"})
    assert invalid.value.details["problems"]
    with pytest.raises(DefectError) as defect:
        client.predict({"words": ["defect"]})
    assert (defect.value.status, defect.value.code) == (500, "internal_error")
    with Client(f"{reader_url}/elsewhere") as lost, pytest.raises(RequestError) as missing:
        lost.predict({})
    assert missing.value.code == "no_such_route"
    with pytest.raises(ModelServiceError, match=r"cannot be written as JSON.*Next: .*data_url"):
        client.predict({"words": [b"bytes"]})


def test_an_upload_stands_in_a_request(client: Client, tmp_path: Path) -> None:
    """A file that is larger than a body goes to the bucket, and the model gets its bytes; small ones go as text."""
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * 6_000_000)
    assert client.predict({"words": [], "paper": client.upload(large)})["size"] == 6_000_000
    assert client.predict({"words": [], "paper": data_url(b"abc")})["size"] == 3
    assert from_data_url(data_url(large)) == large.read_bytes()
    with pytest.raises(UploadError, match="0 bytes"):
        client.upload(b"")


@pytest.mark.parametrize("tasks", [False, True], ids=["threads", "tasks"])
def test_what_passes_is_asked_again(gate: Gate, tasks: bool) -> None:
    """429, 502, 503 with Retry-After and a connection that ends without a word: the fifth try brings the answer."""
    gate.script = [THROTTLED, SOON, (502, {}, b""), (0, {}, b"")]
    rules = RetryRules(tries=5, first_pause=0.01)
    if tasks:
        found = in_task(gate.url, lambda client: client.predict({"words": ["a"]}), retries=rules)
    else:
        with Client(gate.url, retries=rules) as client:
            found = client.predict({"words": ["a"]})
    assert found["text"] == "a"
    assert len(gate.seen) == 5
    assert len({body for _, _, body in gate.seen}) == 1


def test_a_stream_is_asked_again_before_its_first_piece(gate: Gate) -> None:
    """A throttled stream begins at the second try."""
    gate.script = [THROTTLED]
    with Client(gate.url, retries=QUICK) as client, client.stream({"words": ["a"]}) as pieces:
        assert [piece["text"] for piece in pieces] == ["a"]
    assert len(gate.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "code", "step"),
    [
        (REFUSED, UnavailableError, "no_bucket", "set MODEL_BUCKET"),
        ((504, {}, b'{"message": null}'), UnavailableError, "gateway_timeout", "Timeout"),
        ((403, {}, b'{"message": "Forbidden"}'), AccessError, "forbidden", "key"),
        ((401, {}, b'{"message": "Unauthorized"}'), AccessError, "unauthorized", "token"),
        ((413, {}, b'{"message": "Request Too Long"}'), RequestError, "body_too_large", "upload"),
        ((500, {}, b"oh"), DefectError, "unknown", ""),
        ((503, {"Retry-After": "3600"}, SOON[2]), UnavailableError, "no_release", "publish"),
    ],
)
def test_what_stays_is_asked_once(gate: Gate, answer: Any, kind: type[ApiError], code: str, step: str) -> None:
    """Errors that a second try would meet again, or only after a long time, come at once, with a code and a next step."""
    gate.script = [answer]
    with Client(gate.url, retries=QUICK) as client, pytest.raises(kind) as caught:
        client.predict({"words": ["a"]})
    assert (caught.value.code, len(gate.seen)) == (code, 1)
    assert step in caught.value.next_step


def test_the_budget_ends_retries(gate: Gate) -> None:
    """Calls of one client share the budget: with none left each request is sent once."""
    gate.script = [THROTTLED] * 20
    with Client(gate.url, retries=RetryRules(tries=3, first_pause=0.001, budget=3)) as client:
        for _ in range(4):
            with pytest.raises(ThrottledError):
                client.predict({})
    assert len(gate.seen) == 3 + 2 + 1 + 1


def test_answers_in_pieces_that_are_none(gate: Gate) -> None:
    """A stream that stops before its end, and a whole answer in its place, are errors and no short answers."""
    gate.script = [(200, {"content-type": "text/event-stream"}, b'data: {"text": "a"}\n\ndata: {"te')]
    with Client(gate.url) as client:
        with pytest.raises(StreamError, match="after 1 pieces"), client.stream({}) as pieces:
            list(pieces)
        gate.script = [(200, {"content-type": "application/json"}, b"{}")]
        with pytest.raises(StreamError, match="Next: use predict"), client.stream({}) as pieces:
            list(pieces)
        gate.script = [(200, {"content-type": "text/html"}, b"<html>")]
        with pytest.raises(ModelServiceError, match="text/html and not with JSON"):
            client.predict({})


def test_nothing_answers() -> None:
    """A closed port is said with its address, after the retries."""
    with (
        Client("http://127.0.0.1:9", retries=QUICK) as client,
        pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"),
    ):
        client.predict({})
    with pytest.raises(ValueError, match="https://"):
        Client("127.0.0.1:9")


def test_who_asks(gate: Gate) -> None:
    """A key and a token go in their headers, a token that a function gives is asked for at each request."""
    tokens = iter(["one", "two"])
    with Client(gate.url, key="k1") as client:
        client.predict({"words": []})
    with Client(gate.url, auth=BearerToken(lambda: next(tokens))) as client:
        client.predict({"words": []})
        client.predict({"words": []})
    headers = [{name.lower(): value for name, value in each.items()} for _, each, _ in gate.seen]
    assert headers[0]["x-api-key"] == "k1"
    assert [each["authorization"] for each in headers[1:]] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("tasks", [False, True], ids=["threads", "tasks"])
def test_signed_requests(gate: Gate, tasks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is the one that botocore computes for what arrived, also behind a path with odd characters."""
    for name, value in {**CREDENTIALS, "AWS_SESSION_TOKEN": "token"}.items():
        monkeypatch.setenv(name, value)
    url = f"{gate.url}/a%20b/ü"
    if tasks:
        in_task(url, lambda client: client.predict({"words": ["é"]}), auth=SigV4(region="eu-west-1"))
    else:
        with Client(url, auth=SigV4(region="eu-west-1")) as client:
            client.predict({"words": ["é"]})
    ((line, headers, body),) = gate.seen
    headers = {name.lower(): value for name, value in headers.items()}
    address = gate.url + line.removeprefix("POST ")
    again: Any = botocore.awsrequest.AWSRequest("POST", address, {"host": headers["host"]}, body)
    again.context["timestamp"] = headers["x-amz-date"]
    again.headers["X-Amz-Date"] = headers["x-amz-date"]
    again.headers["X-Amz-Security-Token"] = headers["x-amz-security-token"]
    identity = CREDENTIALS["AWS_ACCESS_KEY_ID"]
    keys = botocore.credentials.Credentials(identity, CREDENTIALS["AWS_SECRET_ACCESS_KEY"], "token")
    signer: Any = botocore.auth.SigV4Auth(keys, "execute-api", "eu-west-1")
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert headers["authorization"].endswith(f"Signature={signer.signature(text, again)}")
    assert f"Credential={identity}/" in headers["authorization"]
    assert "/eu-west-1/execute-api/aws4_request" in headers["authorization"]


def test_the_command(reader_url: str, tmp_path: Path) -> None:
    """`types` writes a module from the running API, `predict` prints an answer, and errors are one message."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "lambda_torch_client", *words]
        return subprocess.run(program, capture_output=True, text=True, cwd=ROOT / "clients" / "python")

    done = run("types", reader_url, "--output", str(tmp_path / "reader_api.py"))
    assert done.returncode == 0, done.stderr
    assert "Client[Request, Response, Word]" in (tmp_path / "reader_api.py").read_text()
    assert json.load(io.StringIO(run("predict", reader_url, '{"words": ["a"]}').stdout)) == {"text": "a", "size": None}
    streamed = run("predict", "--stream", reader_url, '{"words": ["a", "b"]}').stdout
    assert list(map(json.loads, streamed.splitlines())) == [{"text": "a"}, {"text": "b"}]
    refused = run("predict", reader_url, '{"words": ["never"]}')
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: The model does not say never")


def test_the_gate_lets_the_service_answer(gate: Gate, reader_url: str) -> None:
    """What the other tests stand on: without a script, an answer is the service's own."""
    direct = requests.post(f"{reader_url}/predict", json={"words": ["a"]}, timeout=60)
    assert requests.post(f"{gate.url}/predict", json={"words": ["a"]}, timeout=60).json() == direct.json()
