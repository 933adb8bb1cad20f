"""The command line against an S3 API over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from click.testing import CliRunner

from integration.releases.samples import folder_of
from lambda_torch.cli import main
from lambda_torch.releases import processors
from lambda_torch.releases.bucket import Bucket


class CommandResult(NamedTuple):
    """What a command did: exit status, standard output, standard error."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.output)


Cli = Callable[..., CommandResult]


@pytest.fixture(autouse=True)
def this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing tries no other kernels, which takes a process with torch for each kind. test_processors tries them."""
    monkeypatch.setattr(processors, "others", tuple)


@pytest.fixture(scope="session")
def session(aws: dict[str, str]) -> boto3.Session:
    """The test's credentials."""
    return boto3.Session(aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"], region_name=aws["AWS_DEFAULT_REGION"])


@pytest.fixture
def cli(aws: dict[str, str], bucket: Bucket, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `lambda-torch` with these words, on the test's bucket; keyword arguments are variables of the environment."""

    def run(*words: str | Path, **environment: str) -> CommandResult:
        with monkeypatch.context() as patch:
            for name, value in {**aws, "MODEL_BUCKET": bucket.name, "COLUMNS": "200", **environment}.items():
                patch.setenv(name, value)
            # A session of its own costs each command a second reading of botocore's data files.
            patch.setattr(boto3, "DEFAULT_SESSION", None if "AWS_ACCESS_KEY_ID" in environment else session)
            result = CliRunner(mix_stderr=False).invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Release folders whose models answer differently; for reading only."""
    base = tmp_path_factory.mktemp("releases")
    return [folder_of(base / str(seed), seed, loss=1.5 + seed) for seed in range(4)]
