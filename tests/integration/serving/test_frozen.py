"""A function that is frozen between two requests, as Lambda freezes it, while a release is on its way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.project import SRC
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

# Each line of the input is an event, and each line of the output an answer.
PROGRAM = """
import sys, json, os
answers, sys.stdout = sys.stdout, open(os.devnull, "w")
import app
for line in sys.stdin:
    print(json.dumps(app.lambda_handler(json.loads(line), None)), file=answers, flush=True)
"""
PREDICT = {"category": "Russian", "start_letters": "RUS"}
HEALTH = {"httpMethod": "GET", "path": "/health", "headers": {}}


class FrozenFunction:
    """The function's process, which runs only while it answers."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-c", PROGRAM]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, event: dict[str, Any]) -> dict[str, Any]:
        """The answer. The process is frozen once it is there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def version(self, frozen_seconds: float) -> str:
        """The release that answers a prediction, after the process was frozen for so long."""
        time.sleep(frozen_seconds)
        answer = self.ask(PREDICT)
        assert answer["statusCode"] == 200, answer
        version: str = answer["headers"]["X-Model-Version"]
        return version

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


StartFrozen = Callable[..., FrozenFunction]


@pytest.fixture
def start_frozen(aws: dict[str, str], bucket: Bucket, proxy: FaultyProxy, tmp_path: Path) -> Iterator[StartFrozen]:
    """Starts the function with an S3 that takes a moment for each read."""
    started = []

    def start(**more: str) -> FrozenFunction:
        environment = {
            **aws,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SRC),
            "MODEL_BUCKET": bucket.name,
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "RELEASE_CACHE": str(tmp_path / "cache"),
            "RELEASE_REFRESH_SECONDS": "0",
            **more,
        }
        started.append(FrozenFunction(environment))
        return started[-1]

    yield start
    for function in started:
        function.close()


def another(release: Path, folder: Path) -> Path:
    """The same weights with another cap for start letters."""
    copytree(release, folder)
    config = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(config | {"max_start_letters": 10}))
    return folder


def test_the_next_request_lends_a_fetch_its_time(
    start_frozen: StartFrozen, bucket: Bucket, proxy: FaultyProxy, release: Path, tmp_path: Path
) -> None:
    """A look that was frozen is finished by the next request, whose own answer still comes from the old release."""
    good = publish(release, bucket).version
    function = start_frozen(RELEASE_LEND_SECONDS="30")
    assert json.loads(function.ask(HEALTH)["body"])["release"] == good
    better = publish(another(release, tmp_path / "better"), bucket).version
    proxy.fault = lambda method, path: Fault(delay=0.2)
    answered = []
    while better not in answered:
        answered.append(function.version(1.0))
    # A look may have begun before the channel changed. Then one more request finishes that one.
    assert len(answered) <= 5
    assert set(answered) == {good, better}


def test_frozen_time_does_not_count(
    start_frozen: StartFrozen, bucket: Bucket, proxy: FaultyProxy, release: Path, tmp_path: Path
) -> None:
    """A fetch for which the time would be over by the clock goes on where it was, and nothing counts as a failure."""
    publish(release, bucket)
    # A pointer may take 2 s in all, and so may the fetch; every freeze is longer.
    function = start_frozen(RELEASE_LEND_SECONDS="0", FUNCTION_TIMEOUT="5", RELEASE_FETCH_SECONDS="2")
    while function.ask(PREDICT)["statusCode"] != 200:
        """Until the first release serves."""
    better = publish(another(release, tmp_path / "better"), bucket).version
    before = json.loads(function.ask(HEALTH)["body"])["refresh"]["failures"]
    proxy.fault = lambda method, path: Fault(delay=0.1)
    while function.version(2.5) != better:
        """Each request brings the fetch further."""
    assert json.loads(function.ask(HEALTH)["body"])["refresh"]["failures"] == before
