"""Both examples by the commands that people use: served, published to while they run, swapped, and rolled back."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from integration.emulator.conftest import wait_until
from integration.emulator.test_serve import start, stop
from integration.examples.conftest import EXAMPLE
from lambda_torch.emulator.storage import CREDENTIALS

COMMAND = str(Path(sys.executable).with_name("lambda-torch"))


@dataclass
class RunningFunction:
    """A function that is served, and its bucket."""

    url: str
    bucket_options: list[str]

    def predict(self, body: str) -> tuple[Any, str]:
        """An answer, and the release that gave it."""
        answer = requests.post(self.url, data=body.encode(), timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json(), answer.headers["X-Model-Version"]

    def command(self, name: str, *arguments: str) -> str:
        """Run a command on the bucket; what it prints on standard output."""
        return subprocess.run(
            [COMMAND, name, *arguments, *self.bucket_options],
            env={**os.environ, **CREDENTIALS, "AWS_DEFAULT_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()


@contextmanager
def served(log: Path, release: Path, *options: str) -> Iterator[tuple[RunningFunction, str]]:
    """The function on stock PyTorch, one environment, looking at the channel at every request; and the example that it prints."""
    common = ("--layer", "stock", "--concurrency", "1", "--env", "RELEASE_REFRESH_SECONDS=0", "--release", str(release))
    process = start(log, *common, *options)
    try:
        address = re.search(r"--bucket (\S+) --endpoint-url (\S+)", log.read_text())
        assert address is not None, log.read_text()
        bucket = ["--bucket", address[1], "--endpoint-url", address[2]]
        yield RunningFunction(process.curl[-1], bucket), process.curl[process.curl.index("-d") + 1]
    finally:
        stop(process, signal.SIGTERM)


def swap_and_roll_back(running: RunningFunction, body: str, other: Path, *options: str) -> None:
    """Publish another release to the running function, see it answer, roll back, and see the first answer again."""
    before, first = running.predict(body)
    second = running.command("publish", str(other), *options)
    assert second != first
    assert wait_until(lambda: running.predict(body)[1] == second, 60)
    running.command("rollback")
    assert wait_until(lambda: running.predict(body)[1] == first, 60)
    assert running.predict(body) == (before, first)


def test_the_names_are_served_published_swapped_and_rolled_back(release: Path, tmp_path: Path) -> None:
    """The sample model goes through a release's whole life under the emulator."""
    other = shutil.copytree(release, tmp_path / "other")
    config = other / "model.json"
    config.write_text(config.read_text().replace('"max_length": 20', '"max_length": 5'))
    with served(tmp_path / "log", release) as (running, body):
        names, _ = running.predict(body)
        assert [name[0] for name in names] == ["R", "U", "S"]
        swap_and_roll_back(running, body, other)


def test_the_embeddings_are_served_published_swapped_and_rolled_back(embeddings_release: Path, tmp_path: Path) -> None:
    """The sentence embeddings do too, with --model and no change to src/: near texts are near, far ones far."""
    other = shutil.copytree(embeddings_release, tmp_path / "other")
    config = other / "model.json"
    config.write_text(config.read_text().replace('"max_tokens": 256', '"max_tokens": 128'))
    model = ("--model", str(EXAMPLE))
    with served(tmp_path / "log", embeddings_release, *model) as (running, body):
        (eating, eats), _ = running.predict(body)
        ((other_text,), _) = running.predict('{"texts": ["The stock market fell sharply."]}')
        assert dot(eating, eats) > 0.7 > 0.3 > dot(eating, other_text)
        refused = requests.post(running.url, json={"texts": []}, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
        swap_and_roll_back(running, body, other, *model)


def dot(one: list[float], other: list[float]) -> float:
    """The cosine similarity of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("", "no package model"), ("model", r"no package model.*Did you mean"), ("nowhere", "does not exist")],
)
def test_a_folder_without_a_model_is_told(folder: str, reason: str) -> None:
    """A --model that holds no package `model` is a usage error that says what is wanted, before anything is started."""
    path = EXAMPLE.parent if folder == "" else EXAMPLE / folder
    done = subprocess.run([COMMAND, "serve", "--model", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(reason, " ".join(done.stderr.split()))


def test_a_model_without_a_release_is_told(tmp_path: Path) -> None:
    """Without a release and without make_release.py, the next step is told."""
    shutil.copytree(EXAMPLE / "model", tmp_path / "mine" / "model")
    arguments = ["serve", "--port", "0", "--layer", "stock", "--model", str(tmp_path / "mine")]
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Next: put the files that Model.load reads into" in " ".join(done.stderr.split())
