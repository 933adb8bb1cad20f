"""Runs `lambda-torch` against a fake AWS that answers over HTTP, and makes clients to look into it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import boto3
import pytest
from click.testing import CliRunner

from lambda_torch.cli import main

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


Run = Callable[..., Ran]
Clients = Callable[..., Any]


def clients(url: str) -> Clients:
    """What makes clients: `make("s3", "eu-west-1")`."""

    def make(service: str, region: str = "us-east-1") -> Any:
        any_client: Any = boto3.client  # its type depends on the service's name, which is not known here
        return any_client(
            service,
            endpoint_url=url,
            region_name=region,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    return make


def runner(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What runs `lambda-torch` with these words.

    Keyword arguments are variables of the environment; an empty one is removed. `typed` is what the user types.
    """

    def run(*words: object, typed: str | None = None, **environment: str) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": url, "COLUMNS": "250", **environment}.items():
                if value:
                    patch.setenv(name, value)
                else:
                    patch.delenv(name, raising=False)
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            result = CliRunner(mix_stderr=False).invoke(main, [str(word) for word in words], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
