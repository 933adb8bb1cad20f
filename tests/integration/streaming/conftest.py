"""The function with a model that answers in pieces, run by AWS's own runtime client in a process of its own."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import new_bucket
from integration.emulator.conftest import wait_until
from integration.releases.samples import put_release
from integration.streaming.runtime_api import RuntimeApi
from lambda_torch.project import SRC
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket

TALKER = Path(__file__).with_name("talker")


class FunctionProcess:
    """The function under `awslambdaric`.

    Attributes:
        lines: what it has written so far, a JSON object or the text of each line.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-m", "awslambdaric", "app.lambda_handler"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[Any] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines with this message."""
        return [line for line in self.lines if isinstance(line, dict) and line.get("message") == message]

    def wait_for(self, message: str, count: int = 1) -> list[dict[str, Any]]:
        """So many lines with this message. The log comes in by itself."""
        assert wait_until(lambda: len(self.said(message)) >= count), self.lines
        return self.said(message)

    def stop(self) -> int:
        """End it; its exit status, and its whole log in `lines`."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait until it ends by itself."""
        status = self.process.wait(60)
        self._thread.join(60)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.lines.append(line)


StartTalker = Callable[..., FunctionProcess]


@pytest.fixture
def talkers(client: Any) -> Bucket:
    """A bucket with a release for the model."""
    bucket = Bucket(client, new_bucket(client))
    channels.promote(bucket, "live", put_release(bucket, 1, golden=[], frameworks={}))
    return bucket


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    """Lambda's Runtime API."""
    with RuntimeApi() as runtime:
        yield runtime


@pytest.fixture
def start_talker(aws: dict[str, str], talkers: Bucket, tmp_path: Path) -> Iterator[StartTalker]:
    """Starts the function against a Runtime API: `start_talker(api, VARIABLE=...)`."""
    with ExitStack() as stack:

        def start(api: RuntimeApi, **variables: str) -> FunctionProcess:
            environment = {
                **aws,
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": f"{TALKER}:{SRC}",
                "AWS_REGION": aws["AWS_DEFAULT_REGION"],
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "RELEASE_CACHE": str(tmp_path / "cache"),
                "MODEL_BUCKET": talkers.name,
                "RESPONSE_STREAMING": "both",
                **variables,
            }
            function = FunctionProcess(environment)
            stack.callback(function.stop)
            return function

        yield start


def event(body: Any, mark: str | None = "on", accept: str = "text/event-stream", **more: Any) -> dict[str, Any]:
    """An event of a REST API whose stage has this mark; None for a direct invocation."""
    made = {
        "resource": "/predict",
        "path": "/predict",
        "httpMethod": "POST",
        "headers": {"Accept": accept},
        "body": json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {"apiId": "abc", "stage": "prod", "domainName": "abc.execute-api.us-east-1.amazonaws.com"},
        "stageVariables": {"responseStreaming": mark} if mark else None,
    }
    return made | more
