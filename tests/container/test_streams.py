"""Words as they come from the function in AWS's container: the built layer, AWS's runtime client, real clients."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from container.conftest import Project
from container.in_container import Package, maker
from integration.emulator.conftest import wait_until
from lambda_torch.emulator import software
from lambda_torch.emulator.function import Function
from lambda_torch.emulator.gateway import Gateway
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.run import HANDLER, listen, serving
from lambda_torch.emulator.storage import CREDENTIALS, REGION, Storage
from lambda_torch.project import ROOT
from lambda_torch.sam import docker, image_names
from lambda_torch.sam.runtime import PythonRuntime
from unit.chat import tiny

CHAT = ROOT / "examples" / "chat"
COMMAND = str(Path(sys.executable).with_name("lambda-torch"))
# A busy machine takes its time, and no test fails for that.
SECONDS = 600
# The model writes these in more than two seconds, so that a client on a busy machine can go before the end.
MOST_TOKENS = 4096
CONTEXT = MOST_TOKENS + 512
QUESTION = [{"role": "user", "content": "hello world"}]


@dataclass
class Talking:
    """The chat example with a tiny random model, in a container.

    Attributes:
        url: of the gateway in front of it.
        lines: what the function has logged so far.
    """

    url: str
    lines: list[str] = field(default_factory=list)

    def logged(self, message: str, **facts: Any) -> list[dict[str, Any]]:
        """The function's lines with this message and these facts."""
        found = []
        for line in list(self.lines):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("message") == message and facts.items() <= entry.items():
                    found.append(entry)
        return found

    def wait_for_gone(self, count: int) -> dict[str, Any]:
        """The line of the answer whose client was the last of so many to go away."""
        assert wait_until(lambda: len(self.logged("request", ended="client_gone")) == count, 120), self.lines[-5:]
        return self.logged("request", ended="client_gone")[-1]


@pytest.fixture(scope="module")
def talking(
    built: Project, images: None, python_runtime: PythonRuntime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Talking]:
    """What `sam build` built, with the chat example in the place of src/model, on the local runtime of `make serve`."""
    folder = tmp_path_factory.mktemp("streams")
    release = tiny.write_tiny_release(
        folder / "release", tiny.write_folder(folder / "folder", tiny.random_weights(), CONTEXT), "bf16", CONTEXT
    )
    host = docker.host()
    build = built.folder / ".aws-sam" / "build"
    package = Package(
        image_names.runtime(python_runtime.version),
        {"/var/task": build / "PredictFunction", "/var/task/model": CHAT / "model", "/opt": build / "TorchLayer"},
    )
    with ExitStack() as stack:
        processes = stack.enter_context(Processes())
        storage = Storage(processes, folder, "models", host=host.bind)
        publish = ["publish", str(release), "--model", str(CHAT), "--bucket", "models", "--endpoint-url", storage.url]
        variables = {**os.environ, **CREDENTIALS, "AWS_DEFAULT_REGION": REGION}
        subprocess.run([COMMAND, *publish], env=variables, check=True, timeout=SECONDS)
        function = Function(
            package.folders["/var/task"],
            HANDLER,
            software.stock(),  # the container has its own
            timeout_seconds=SECONDS,
            variables={
                "MODEL_BUCKET": "models",
                "AWS_ENDPOINT_URL_S3": storage.url.replace(host.bind, host.name),
                "RESPONSE_STREAMING": "both",
                "FUNCTION_TIMEOUT": str(SECONDS),
            },
        )
        found = Talking("")
        make = maker(package, function, processes, folder, found.lines.append)
        pool = stack.enter_context(contextlib.closing(Pool(make, 1)))
        pool.start()
        gateway = Gateway(pool, PAYLOADS["v1"], timeout_seconds=SECONDS, streams=True)
        found.url = stack.enter_context(serving(gateway, stack.enter_context(listen("127.0.0.1", 0))))
        yield found


@pytest.fixture(scope="module")
def client(talking: Talking) -> Iterator[openai.OpenAI]:
    """OpenAI's client of it, which does not try again."""
    with openai.OpenAI(base_url=f"{talking.url}/v1", api_key="none", max_retries=0, timeout=SECONDS) as client:
        yield client


def curl(talking: Talking, **more: Any) -> list[str]:
    """`curl -N`, as the documents have it."""
    body = json.dumps({"messages": QUESTION, "temperature": 0, **more})
    line = f"curl --no-buffer --silent --show-error -H 'Accept: text/event-stream' {talking.url}/predict"
    return [*shlex.split(line), "-d", body]


def test_curl_shows_words_as_they_come(talking: Talking) -> None:
    """curl prints the first word before the answer is made: when it goes then, the model in the container stops."""
    with subprocess.Popen(curl(talking, max_tokens=MOST_TOKENS), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.kill()
    assert json.loads(first.removeprefix("data: "))["text"]
    assert talking.wait_for_gone(1)["pieces"] < MOST_TOKENS - 1


def test_curl_gets_the_whole_stream(talking: Talking) -> None:
    """Read to its end, the stream has many pieces and the event `end`, and joined they are the whole answer."""
    done = subprocess.run(curl(talking, max_tokens=24), stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS)
    *pieces, end = done.stdout.strip().split("\n\n")
    texts = [json.loads(piece.removeprefix("data: "))["text"] for piece in pieces]
    assert len(texts) > 3
    assert end.startswith('event: end\ndata: {"finish_reason":"length"')
    whole = [*curl(talking, max_tokens=24), "-H", "Accept: application/json"]
    whole.remove("Accept: text/event-stream")
    whole.remove("-H")
    answer = json.loads(subprocess.run(whole, stdout=subprocess.PIPE, check=True, timeout=SECONDS).stdout)
    assert answer["message"]["content"] == "".join(texts)


def test_openais_client_reads_words_as_they_come(talking: Talking, client: openai.OpenAI) -> None:
    """OpenAI's client has the first word while the model in the container still writes, and can end it there."""
    asked: dict[str, Any] = {"model": "chat", "messages": QUESTION, "temperature": 0, "stream": True}
    stream = client.chat.completions.create(**asked, max_completion_tokens=MOST_TOKENS)
    words = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
    assert next(word for word in words if word)
    stream.close()
    assert talking.wait_for_gone(2)["pieces"] < MOST_TOKENS - 1
    chunks = list(client.chat.completions.create(**asked, max_completion_tokens=24))
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 3
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_container_streams_by_the_hook(talking: Talking) -> None:
    """Nothing in the log says that answers are collected: AWS's runtime client in the image is the one that is expected."""
    assert talking.logged("request", ended="client_gone")
    assert not talking.logged("answers are not streamed")
