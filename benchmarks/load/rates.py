"""Measures requests per second and latencies of the function, FastAPI, the local pool and the bare model."""

import contextlib
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import loopback
from benchmarks.fetching import CREDENTIALS
from benchmarks.load.client import load
from benchmarks.load.peers import RELEASE
from lambda_torch import project

CLIENTS = (1, 2, 8, 32)
WORKERS = 2
ROUNDS = 3
BUCKET = "models"
BODY = b'{"category":"Russian","start_letters":"RUS"}'
# One thread of torch in each worker. The function has one with the memory of one vCPU.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}


@contextlib.contextmanager
def uvicorn(name: str, environment: dict[str, str]) -> Iterator[str]:
    """Run one worker with `benchmarks.load.peers:NAME` behind uvicorn. Gives its address as soon as it answers.

    This does not use uvicorn's own `--workers`. With that option uvicorn leaves Nagle's algorithm on and writes head
    and body separately. Each answer then waits 40 ms for the client's delayed acknowledgement (tcp(7)), which hides
    everything else.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--factory", "--port", str(port), "--http", "httptools", "--loop", "uvloop"]
    options += ["--no-access-log", "--log-level", "error"]
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.load.peers:{name}", *options]
    with subprocess.Popen(
        command, cwd=project.ROOT, env=os.environ | THREADS | environment, start_new_session=True
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, server)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while True:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{shlex.join(map(str, server.args))} does not answer")  # type: ignore[arg-type]
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{url}/predict", BODY, {"Content-Type": "application/json"})
            ):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)


@contextlib.contextmanager
def pool(release: Path) -> Iterator[str]:
    """Run `lambda-torch serve`: the local gateway and AWS's emulator with two environments. Gives its address."""
    program = str(Path(sys.executable).with_name("lambda-torch"))
    options = ["--port", "0", "--layer", "stock", "--memory", "1769", "--concurrency", str(WORKERS)]
    command = [program, "serve", *options, "--release", str(release)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as served:
        try:
            assert served.stdout is not None
            line = next((line for line in served.stdout if line.startswith("curl")), None)
            assert line is not None, "lambda-torch serve does not start"
            yield shlex.split(line)[-1].removesuffix("/predict")
        finally:
            served.send_signal(signal.SIGINT)


def bare(release: Path, seconds: float) -> float:
    """Requests per second of the bare model in a loop, in as many processes as there are workers."""
    command = [sys.executable, "-m", "benchmarks.load.peers", str(release), str(seconds), BODY.decode()]
    loops = [
        subprocess.Popen(command, cwd=project.ROOT, env=os.environ | THREADS, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    return sum(float(loop.communicate()[0]) for loop in loops)


def measure(release: Path, scratch: Path, seconds: float) -> dict[str, Any]:
    """Measure all services in turns. Returns the medians of the rounds for each number of clients."""
    project.use_function_code()
    import boto3

    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(loopback.serving("api"))
        os.environ.update(CREDENTIALS)
        client = boto3.client("s3", endpoint_url=storage)
        client.create_bucket(Bucket=BUCKET)
        publish(release, Bucket(client, BUCKET))
        variables = {"MODEL_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": storage, "RELEASE_CACHE": str(scratch / "cache")}
        services = {
            "function": [stack.enter_context(uvicorn("function", CREDENTIALS | variables)) for _ in range(WORKERS)],
            "fastapi": [stack.enter_context(uvicorn("fastapi", {RELEASE: str(release)})) for _ in range(WORKERS)],
            "pool": [stack.enter_context(pool(release))],
        }
        for urls in services.values():
            load(urls, BODY, 8, 2)
        rounds = {clients: [_round(services, clients, seconds, turn) for turn in range(ROUNDS)] for clients in CLIENTS}
    pairs = [(each["function"]["rps"], each["fastapi"]["rps"]) for several in rounds.values() for each in several]
    return {
        "workers": WORKERS,
        "rows": [_row(clients, several) for clients, several in rounds.items()],
        "bare_rps": round(statistics.median(bare(release, seconds) for _ in range(ROUNDS)), 1),
        # The ratios are of measurements next to each other, because other load on the machine changes by the minute.
        "fastapi_ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 3),
    }


def _round(
    services: dict[str, list[str]], clients: int, seconds: float, turn: int
) -> dict[str, dict[str, float | int]]:
    """Measure each service once. Every other round has the reverse order."""
    names = list(services)[:: -1 if turn % 2 else 1]
    figures = {name: load(services[name], BODY, clients, seconds) for name in names}
    print(
        f"{clients} clients: " + ", ".join(f"{name} {each['rps']}/s" for name, each in figures.items()), file=sys.stderr
    )
    return figures


def _row(clients: int, rounds: list[dict[str, dict[str, float | int]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"clients": clients}
    for name in rounds[0]:
        figures = [each[name] for each in rounds]
        row[name] = {key: statistics.median(each[key] for each in figures) for key in ("rps", "p50_ms", "p99_ms")}
        row[name]["errors"] = sum(each["errors"] for each in figures)
    return row
