"""A real S3 API (moto's server over HTTP), buckets with releases, and the function's handler started against them."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from integration.serving.proxy import FaultyProxy
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving.settings import SPECIAL, AwsEnvironment
from serving.storage import signed
from serving.storage.objects import Objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 API of this test run."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def start(environment: Mapping[str, str]) -> ModuleType:
    """Start the function anew, as a new execution environment would, and return its module `app`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # Where the tests run behind a proxy, say, S3 is read as it would be without.
        for name in SPECIAL:
            patch.delenv(name, raising=False)
        # What limit_threads sets must not outlive the start.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, os.environ.get(name, "1"))
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        patch.delitem(sys.modules, "app", raising=False)
        return importlib.import_module("app")


def new_bucket(client: "S3Client") -> str:
    """The name of a new, empty bucket."""
    name = f"models-{uuid4()}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(s3_url: str) -> Iterator[FaultyProxy]:
    """The S3 API, with faults."""
    proxy = FaultyProxy(s3_url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def aws(s3_url: str) -> dict[str, str]:
    """The variables with which boto3 finds that S3, on any machine."""
    return CREDENTIALS | {"AWS_ENDPOINT_URL_S3": s3_url}


@pytest.fixture(scope="session")
def client(aws: dict[str, str]) -> "S3Client":
    """An S3 client."""
    return boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL_S3"],
        region_name=aws["AWS_DEFAULT_REGION"],
        aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture(scope="session")
def direct(aws: dict[str, str]) -> Objects:
    """The function's own way to read that S3."""
    return signed.open_objects(AwsEnvironment.from_environment(aws))


@pytest.fixture
def bucket(client: "S3Client") -> Bucket:
    """A new, empty bucket."""
    return Bucket(client, new_bucket(client))


StartFunction = Callable[..., ModuleType]

# A function that starts in the tests' own process has the models of other tests beside it, so it gets Lambda's largest memory,
# and the threads of the default one.
IN_THIS_PROCESS = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "10240", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture
def start_function(aws: dict[str, str], tmp_path: Path) -> StartFunction:
    """Starts the function with these variables: `start_function(MODEL_BUCKET=...)` returns `app`."""

    def start_with(**environment: str) -> ModuleType:
        return start({**aws, **IN_THIS_PROCESS, "RELEASE_CACHE": str(tmp_path / "cache"), **environment})

    return start_with


@pytest.fixture(scope="session")
def app(aws: dict[str, str], client: "S3Client", release: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The function, serving a published release; for tests that only send it events."""
    bucket = new_bucket(client)
    publish(release, Bucket(client, bucket))
    cache = str(tmp_path_factory.mktemp("cache"))
    return start({**aws, **IN_THIS_PROCESS, "MODEL_BUCKET": bucket, "RELEASE_CACHE": cache})
