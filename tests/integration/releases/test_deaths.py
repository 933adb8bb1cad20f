"""A release that ends the process while it is loaded: two deaths, then it is refused, and the last good release serves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from integration.releases.samples import put_release
from lambda_torch.project import ROOT
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from serving.errors import DeadlyReleaseError
from serving.releases.deaths import FORGOTTEN_SECONDS, DeathMarks
from serving.releases.format import ReleaseRef

# A model that answers with the number of its release, and ends the process where the release has the number of the variable.
MODEL = """
import os
from pathlib import Path
from pydantic import BaseModel, RootModel

class Request(BaseModel):
    x: int

class Response(RootModel[list[int]]):
    pass

class Model:
    def __init__(self, number):
        self.number = number

    @classmethod
    def load(cls, release: Path):
        number = int((release / "data.txt").read_text().split()[1])
        if os.environ.get("DEADLY") == str(number):
            os.kill(os.getpid(), 9)
        return cls(number)

    def predict(self, requests):
        return [Response([self.number]) for _ in requests]
"""
# The function's process: it starts, and answers once.
PROGRAM = """
import json, app
event = {"httpMethod": "POST", "path": "/predict", "headers": {}, "body": '{"x": 1}'}
answer = app.lambda_handler(event, None)
health = app.lambda_handler({"httpMethod": "GET", "path": "/health", "headers": {}}, None)
print("ANSWER", json.dumps([answer["statusCode"], answer["body"], health["body"]]), flush=True)
"""


@pytest.fixture
def start(aws: dict[str, str], bucket: Bucket, tmp_path: Path) -> Any:
    """Starts the function's process once more, in the same environment: with /tmp as it was."""
    (tmp_path / "task" / "model").mkdir(parents=True)
    (tmp_path / "task" / "model" / "__init__.py").write_text(MODEL)

    def run(deadly: int | None) -> Any:
        variables = {
            **aws,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(tmp_path / "task"), str(ROOT / "src"))),
            "MODEL_BUCKET": bucket.name,
            "RELEASE_CACHE": str(tmp_path / "cache"),
            "LOG_LEVEL": "CRITICAL",
            **({} if deadly is None else {"DEADLY": str(deadly)}),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
        if not lines:
            return done.returncode
        status, body, health = json.loads(lines[0].removeprefix("ANSWER "))
        return status, json.loads(body), json.loads(health)

    return run


def test_after_two_deaths_the_last_good_release_serves(start: Any, bucket: Bucket) -> None:
    """The process dies twice with the new release, then it serves the one before from its cache and says why."""
    good, deadly, next_one = (put_release(bucket, number) for number in (1, 2, 3))
    channels.promote(bucket, "live", good)
    assert start(2)[:2] == (200, [1])
    channels.promote(bucket, "live", deadly)
    assert [start(2), start(2)] == [-signal.SIGKILL] * 2
    status, body, health = start(2)
    assert (status, body) == (200, [1])
    assert deadly.version in health["refresh"]["problem"]
    assert "2 times while it was loaded" in health["refresh"]["problem"]
    channels.promote(bucket, "live", next_one)
    assert start(2)[:2] == (200, [3])


def test_without_a_last_good_release_the_answer_is_503(start: Any, bucket: Bucket) -> None:
    """An environment that never had another release answers 503 with the reason, and does not die again."""
    channels.promote(bucket, "live", put_release(bucket, 2))
    assert [start(2), start(2)] == [-signal.SIGKILL] * 2
    status, body, _ = start(2)
    assert status == 503
    assert "ended this environment's process 2 times" in body["error"]["message"]
    assert "Next: publish another release" in body["error"]["message"]


def test_one_death_is_forgiven(start: Any, bucket: Bucket) -> None:
    """A process that died once loads the release the next time, and that death is forgotten with time alone."""
    channels.promote(bucket, "live", put_release(bucket, 2))
    assert start(2) == -signal.SIGKILL
    assert start(None)[:2] == (200, [2])


REF = ReleaseRef(version="1" * 64, manifest_sha256="2" * 64)


def die_while_loading(cache: Path, version: str) -> None:
    """Have another process end in the middle of loading."""
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from pathlib import Path
from serving.releases.deaths import DeathMarks
with DeathMarks(Path({str(cache)!r})).loading({version!r}):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL


def test_a_release_that_another_process_loads_is_not_dead(tmp_path: Path) -> None:
    """The mark of a process that is still loading counts as no death, and goes when the loading ends or raises."""
    marks = DeathMarks(tmp_path)
    with marks.loading(REF.version):
        assert DeathMarks(tmp_path).deaths(REF.version) == 0
        with DeathMarks(tmp_path).loading(REF.version):
            pass
    with pytest.raises(ValueError, match="refused"), marks.loading(REF.version):
        raise ValueError("refused")
    assert marks.deaths(REF.version) == 0
    assert list((tmp_path / "loading").iterdir()) == []


def test_deaths_are_forgotten_after_an_hour(tmp_path: Path) -> None:
    """Two deaths refuse the release, another one is not concerned, and after an hour the release is tried again."""
    for _ in range(2):
        die_while_loading(tmp_path, REF.version)
    marks = DeathMarks(tmp_path)
    with pytest.raises(DeadlyReleaseError), marks.loading(REF.version):
        raise AssertionError
    with marks.loading("3" * 64):
        pass
    past = time.time() - FORGOTTEN_SECONDS - 1
    for mark in (tmp_path / "loading").iterdir():
        os.utime(mark, (past, past))
    with marks.loading(REF.version):
        pass
    assert marks.deaths(REF.version) == 0


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Where no mark can be made, releases are loaded all the same."""
    (tmp_path / "file").write_text("")
    marks = DeathMarks(tmp_path / "file")
    with marks.loading(REF.version):
        marks.remember(REF)
    assert marks.last_good() is None


def test_the_last_good_release_is_remembered(tmp_path: Path) -> None:
    """The last release that was loaded well is known to the next process; a damaged note is none."""
    marks = DeathMarks(tmp_path)
    marks.remember(REF)
    assert DeathMarks(tmp_path).last_good() == REF
    (tmp_path / "loading" / "good.json").write_text("{")
    assert marks.last_good() is None


def test_a_release_that_was_loaded_well_takes_its_deaths_back(start: Any, bucket: Bucket) -> None:
    """A start that Lambda ends because it is slow counts as a death until the next one succeeds, and not for an hour."""
    channels.promote(bucket, "live", put_release(bucket, 2))
    for _ in range(3):
        assert start(2) == -signal.SIGKILL
        assert start(None)[:2] == (200, [2])
