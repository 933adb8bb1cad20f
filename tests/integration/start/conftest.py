"""The function in processes of its own, as a new execution environment starts it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import new_bucket
from lambda_torch.project import SRC
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

PROGRAM = Path(__file__).with_name("program.py")
EVENT = {"category": "Russian", "start_letters": "RUS"}


@dataclass(frozen=True)
class StartedProcess:
    """The first answer of a fresh process, its log, its peak in bytes without mapped files, torch's threads.

    And what it had imported before the event, and after its answer.
    """

    answer: dict[str, Any]
    ready: list[str]
    answered: list[str]
    lines: list[dict[str, Any]]
    peak: int
    threads: int


StartFresh = Callable[..., StartedProcess]


@pytest.fixture(scope="session")
def published(client: Any, release: Path) -> str:
    """A bucket with the sample release on its channel."""
    name = new_bucket(client)
    publish(release, Bucket(client, name))
    return name


@pytest.fixture
def start_fresh(aws: dict[str, str], published: str, tmp_path: Path) -> StartFresh:
    """Starts the function in a new process, which answers one event: `start_fresh(VARIABLE=...)`."""

    def start(**variables: str) -> StartedProcess:
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(SRC),
            "RELEASE_CACHE": str(tmp_path / "cache"),
            "MODEL_BUCKET": published,
            **{name: value for name, value in aws.items() if name != "AWS_MAX_ATTEMPTS"},
            "AWS_REGION": aws["AWS_DEFAULT_REGION"],
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-P", str(PROGRAM)],
            input=json.dumps(EVENT),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        return StartedProcess(
            told["answer"],
            told["ready"],
            told["answered"],
            [json.loads(line) for line in told["log"]],
            told["peak"],
            told["threads"],
        )

    return start
