"""Lambda's Invoke API, asked by AWS's own client."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from integration.emulator.conftest import MakePool
from lambda_torch.emulator.function import PAYLOAD_LIMIT
from lambda_torch.emulator.invoke_api import InvokeApi
from lambda_torch.emulator.run import listen, serving


@pytest.fixture
def url(make_pool: MakePool) -> Iterator[str]:
    """The address of an Invoke API."""
    pool = make_pool()
    pool.start()
    with listen("127.0.0.1", 0) as taken, serving(InvokeApi(pool, "this run", 60), taken) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    """boto3's Lambda client for it."""
    made = boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield made
    made.close()


def test_an_invocation_gives_the_answer(client: Any) -> None:
    """The payload arrives as the event, the client's context too, and the answer comes back as it is."""
    custom = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    answer = client.invoke(FunctionName="any", Payload=b'{"do": "describe"}', ClientContext=custom)
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"])["client"] == {"k": "v"}


def test_a_failed_invocation_is_marked(client: Any) -> None:
    """An exception of the function is a 200 that is marked as a function error."""
    answer = client.invoke(FunctionName="any", Payload=io.BytesIO(b'{"do": "raise"}'))
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.load(answer["Payload"])["errorType"] == "RuntimeError"


@pytest.mark.parametrize(("kind", "status"), [("Event", 202), ("DryRun", 204)])
def test_other_invocation_types(client: Any, kind: str, status: int) -> None:
    """An asynchronous invocation is accepted at once, and a dry run only checked."""
    assert client.invoke(FunctionName="any", InvocationType=kind, Payload=b"{}")["StatusCode"] == status


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"{broken", "InvalidRequestContentException"), (b" " * (PAYLOAD_LIMIT + 1), "RequestTooLargeException")],
)
def test_payloads_that_lambda_refuses(client: Any, payload: bytes, code: str) -> None:
    """Broken JSON and too large payloads are the errors that AWS's client knows."""
    with pytest.raises(ClientError) as caught:
        client.invoke(FunctionName="any", Payload=payload)
    assert caught.value.response["Error"]["Code"] == code


def test_unknown_paths_and_types_are_refused(url: str) -> None:
    """What is not an invocation is a 404, and an unknown invocation type a 400."""
    assert requests.get(f"{url}/2015-03-31/functions/", timeout=60).status_code == 404
    headers = {"X-Amz-Invocation-Type": "Sideways"}
    path = "/2015-03-31/functions/any/invocations"
    assert requests.post(url + path, b"{}", headers=headers, timeout=60).status_code == 400


def test_it_tells_which_run_it_is(url: str) -> None:
    """The run's identity can be asked for."""
    assert requests.get(f"{url}/lambda-torch", timeout=60).text == "this run"
