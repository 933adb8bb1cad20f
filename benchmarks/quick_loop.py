"""Measures the seconds from saving an edit in src/ to the new answer, in AWS's container and under the emulator.

The program needs Docker. It works in a copy of the checkout (build/bench/quick_loop). The first run builds the layer
there, which takes minutes.

    container   after the save a person runs `sam build --use-container`; `sam local start-api` has warm containers
    emulator    after the save a person does nothing: `lambda-torch serve`, on the same layer, starts the function again
    everything  one build of function and layer without the cache, which otherwise keeps the layer;
                measured in the first run, and with --everything

The figures are medians of ROUNDS rounds. Each edit changes a header of the answer. The clock stops when a request gets
it.
"""

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lambda_torch import project
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.names.default import a_release
from lambda_torch.sam import checkout, command, docker, image_names, pip_settings, runtime, start_api

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
    """Send requests until the answer carries the mark."""
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
    """The median seconds from a save to the new answer.

    `after_save` does what a person does after the save, and returns the address.
    """
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
def builder(folder: Path, image: str) -> Iterator[Callable[..., float]]:
    """Give a function that runs `sam build --use-container` in the folder, with this image, and returns its seconds."""
    with pip_settings.for_containers(docker.host(), image) as variables:
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
        start_api.storage(a_release(), processes, print) as (_, variables),
        start_api.start_api(processes, variables, free_port(), lambda _: None, folder) as api,
    ):

        def after_save() -> str:
            build()
            return api.url

        return rounds(folder / "src" / "app.py", after_save)


def under_emulator(folder: Path) -> float:
    """Seconds of the loop with `lambda-torch serve`, on the layer that SAM built."""
    layer = folder / ".aws-sam" / "build" / "TorchLayer"
    line = [sys.executable, "-c", "from lambda_torch.cli import main; main()", "serve", "--port", "0"]
    line += ["--layer", str(layer), "--release", str(a_release()), "--concurrency", "1"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "tools")}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            shown = process.stdout.readline()
            if not shown:
                log.seek(0)
                raise SystemExit(f"lambda-torch serve failed:\n{log.read().decode()[-3000:]}")
            url = shlex.split(shown)[-1].removesuffix("/predict")
            return rounds(folder / "src" / "app.py", lambda: url)
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    """Measure, print a table, write the result."""
    docker.require()
    chosen = runtime.choose(print)
    checkout.copy(FOLDER, chosen)
    with builder(FOLDER, image_names.build(chosen.version)) as build:
        first = build()
        seconds = {"container": in_container(FOLDER, build), "emulator": under_emulator(FOLDER)}
        # A first build that takes so long has not used the cache of an earlier run.
        if first > 100 or "--everything" in sys.argv[1:]:
            seconds["everything"] = first if first > 100 else build("--no-cached")
    print("| loop | seconds from save to the new answer | ratio to the container |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} | {value / seconds['container']:.2f} |")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"rounds": ROUNDS, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
