"""`lambda-torch layer publish` against AWS's APIs over HTTP (moto's server, which answers for every region)."""

from collections.abc import Iterator

import pytest
import requests
from moto.server import ThreadedMotoServer

from integration.aws_command import Clients, Run, clients, runner


@pytest.fixture
def aws_url() -> Iterator[str]:
    """The address of an empty AWS of this test."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    # A name, not a number: with a number, S3's clients would not put the bucket's name before it.
    url = f"http://localhost:{port}"
    # Servers of one process share their state.
    requests.post(f"{url}/moto-api/reset", timeout=30)
    yield url
    server.stop()


@pytest.fixture
def client(aws_url: str) -> Clients:
    """Makes clients."""
    return clients(aws_url)


@pytest.fixture
def run(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `lambda-torch`."""
    return runner(aws_url, monkeypatch)
