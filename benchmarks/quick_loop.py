"""Seconds from saving an edit in src/ to the new answer, in AWS's container and under the emulator. Needs Docker.

In a copy of the checkout (build/bench/quick_loop; its first run builds the layer, which takes minutes and is not measured):

    container   `sam build --use-container` after the save, while `sam local start-api` runs with warm containers
    emulator    `lambda-torch serve` started again after the save, on the same layer
    everything  what building function and layer anew takes, once: what the loop would cost if the cache did not keep the layer

Medians of ROUNDS rounds; each edit changes a header of the answer, and the clock stops when a request gets it.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lambda_torch import project
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.sam import checkout, command, docker, local, pip_settings, runtime

ROUNDS = 3
FOLDER = project.BUILD / "bench" / "quick_loop"
RESULT = project.BUILD / "bench" / "quick_loop.json"
REQUEST = b'{"category":"Russian","start_letters":"RUS"}'
PATIENCE_SECONDS = 600
EDIT = """

_before = lambda_handler


def lambda_handler(event, context):
    answer = _before(event, context)
    answer["headers"]["X-Edit"] = "{mark}"
    return answer
"""


def save(source: Path, original: str, mark: str) -> None:
    """Save an edit that makes every answer carry this mark."""
    source.write_text(original + EDIT.format(mark=mark))


def wait_for(url: str, mark: str) -> None:
    """Ask until the answer carries the mark."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", REQUEST), timeout=60) as answer:
                if answer.headers.get("X-Edit") == mark:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} still gives the old answer after {PATIENCE_SECONDS} s")


def rounds(source: Path, after_save: Callable[[], str]) -> float:
    """The median seconds from a save to the new answer; `after_save` does what a person does then, and returns the address."""
    original = source.read_text()
    seconds = []
    try:
        for _ in range(ROUNDS):
            mark = f"{time.time_ns()}"
            start = time.perf_counter()
            save(source, original, mark)
            wait_for(after_save(), mark)
            seconds.append(time.perf_counter() - start)
    finally:
        source.write_text(original)
    return statistics.median(seconds)


@contextmanager
def builder(folder: Path) -> Iterator[Callable[..., float]]:
    """A function that runs `sam build --use-container` in the folder and returns its seconds."""
    with pip_settings.for_containers(docker.host()) as variables:
        options = [f"--container-env-var={name}={value}" for name, value in variables.items()]

        def build(*more: str) -> float:
            start = time.perf_counter()
            line = [command.executable(), "build", "--use-container", *options, *more]
            done = subprocess.run(line, cwd=folder, env=command.environment(), capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"sam build failed:\n{done.stderr[-3000:]}")
            return time.perf_counter() - start

        yield build


def in_container(folder: Path, build: Callable[..., float]) -> float:
    """Seconds of the loop with warm containers."""
    with (
        Processes() as processes,
        local.storage(project.RELEASE, processes, print) as (_, variables),
        local.start_api(processes, variables, free_port(), lambda _: None, folder) as api,
    ):

        def after_save() -> str:
            build()
            return api.url

        return rounds(folder / "src" / "app.py", after_save)


def under_emulator(folder: Path) -> float:
    """Seconds of the loop with `lambda-torch serve`, on the layer that SAM built."""
    layer = folder / ".aws-sam" / "build" / "TorchLayer"
    running: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "PYTHONPATH": str(folder / "tools")}

    def end() -> None:
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.wait()
        running.clear()

    def after_save() -> str:
        end()
        port = free_port()
        line = [sys.executable, "-c", "from lambda_torch.cli import main; main()", "serve", "--port", str(port)]
        line += ["--layer", str(layer), "--release", str(project.RELEASE)]
        with tempfile.TemporaryFile() as log:
            running.append(subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log))
        return f"http://127.0.0.1:{port}"

    try:
        after_save()  # installs the function's packages, once
        wait_for_any(after_save())
        return rounds(folder / "src" / "app.py", after_save)
    finally:
        end()


def wait_for_any(url: str) -> None:
    """Wait until something answers."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=60).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)


def main() -> None:
    """Measure, print a table, write the result."""
    docker.check()
    if not project.RELEASE.exists():
        raise SystemExit("There is no release in build/release. Next: lambda-torch train")
    checkout.copy(FOLDER, runtime.choose(print))
    with builder(FOLDER) as build:
        everything = build()
        if everything < 60:  # it was there from an earlier run
            everything = build("--no-cached")
        seconds = {
            "container": in_container(FOLDER, build),
            "emulator": under_emulator(FOLDER),
            "everything": everything,
        }
    print("| loop | seconds from save to the new answer | ratio to building everything |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} | {value / everything:.3f} |")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"rounds": ROUNDS, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
