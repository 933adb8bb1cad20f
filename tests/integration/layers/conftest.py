"""`lambda-torch` against AWS's APIs over HTTP (moto's server)."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import boto3
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from lambda_torch.cli import main

# Another set of accounts and regions is not needed: moto answers for all regions.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}


class Ran(NamedTuple):
    """What a command did: exit status, standard output, standard error."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.output)


@pytest.fixture
def aws_url() -> Iterator[str]:
    """The address of an empty AWS of this test."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    # A name, not a number: with a number, S3's clients would not put the bucket's name before it.
    url = f"http://localhost:{port}"
    # Servers of one process share their state.
    import requests

    requests.post(f"{url}/moto-api/reset", timeout=30)
    yield url
    server.stop()


@pytest.fixture
def client(aws_url: str) -> Callable[..., Any]:
    """Makes clients: `client("s3", "eu-west-1")`."""

    def make(service: str, region: str = "us-east-1") -> Any:
        any_client: Any = boto3.client  # its type depends on the service's name, which is not known here
        return any_client(
            service,
            endpoint_url=aws_url,
            region_name=region,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    return make


@pytest.fixture
def run(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs `lambda-torch` with these words; keyword arguments are variables of the environment, and `typed` is its input."""

    def run_command(*words: object, typed: str | None = None, **environment: str) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": aws_url, "COLUMNS": "250", **environment}.items():
                if value:
                    patch.setenv(name, value)
                else:
                    patch.delenv(name, raising=False)
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            result = CliRunner(mix_stderr=False).invoke(main, [str(word) for word in words], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run_command
