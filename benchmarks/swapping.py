"""Measures environments of the function under load: what swaps cost requests, and what checks of the channel cost.

Each environment is a process of its own. It sends itself one request after the other (a closed loop), as Lambda does
under load. The S3 API is another process.
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import copytree
from typing import Any

from benchmarks.fetching import CREDENTIALS

BUCKET = "models"
ENVIRONMENTS = 2
SETTLE_SECONDS = 2.0
BEFORE_SECONDS = 15.0
SWAPS = 20
SWAP_EVERY_SECONDS = 1.5
REFRESH_SECONDS = 0.25
BLOCK = 25
BLOCKS = 200
EVENT = {"category": "Russian", "start_letters": "RUS"}

Answered = tuple[float, float, str | None]
"""The time when a request began, its duration (both in seconds), and the release that answered (None: it failed)."""


def another(folder: Path, target: Path) -> Path:
    """Make a second release: the same weights, and another limit of start letters."""
    copytree(folder, target)
    config = json.loads((target / "model.json").read_text())
    (target / "model.json").write_text(json.dumps(config | {"max_start_letters": 63}))
    return target


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all values is below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def start(cache: str, refresh_seconds: float) -> Any:
    """Import the function as a new environment. Its log is discarded."""
    os.environ.update(
        CREDENTIALS, MODEL_BUCKET=BUCKET, RELEASE_CACHE=cache, RELEASE_REFRESH_SECONDS=str(refresh_seconds)
    )
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (open as long as this process lives)
    import app

    for _ in range(200):
        app.lambda_handler(EVENT, None)
    return app


def environment(url: str, cache: str, parent: Connection) -> None:
    """One environment. It sends requests until the parent says stop, and then returns all answers."""
    os.environ["AWS_ENDPOINT_URL_S3"] = url
    app = start(cache, REFRESH_SECONDS)
    parent.send("ready")
    answered: list[Answered] = []
    while not parent.poll():
        began = time.monotonic()
        answer = app.lambda_handler(EVENT, None)
        took = time.monotonic() - began
        answered.append((began, took, answer["headers"]["X-Model-Version"] if answer["statusCode"] == 200 else None))
    parent.send(answered)


def measure_swaps(url: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """Run closed loops while the channel moves between two releases."""
    import boto3

    from lambda_torch.releases import channels
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=BUCKET)
    bucket = Bucket(client, BUCKET)
    releases = [publish(folder, bucket), publish(another(folder, scratch / "other"), bucket, channel=None)]
    spawn = multiprocessing.get_context("spawn")
    pipes, children = [], []
    for number in range(ENVIRONMENTS):
        mine, theirs = spawn.Pipe()
        child = spawn.Process(target=environment, args=(url, str(scratch / f"cache-{number}"), theirs), daemon=True)
        child.start()
        pipes.append(mine)
        children.append(child)
    for pipe in pipes:
        pipe.recv()
    time.sleep(SETTLE_SECONDS)
    first = time.monotonic()
    time.sleep(BEFORE_SECONDS)
    promoted: list[tuple[float, str]] = []
    for number in range(1, SWAPS + 1):
        release = releases[number % 2]
        channels.promote(bucket, "live", release.release.ref)
        promoted.append((time.monotonic(), release.version))
        time.sleep(SWAP_EVERY_SECONDS)
    for pipe in pipes:
        pipe.send("stop")
    answers: list[list[Answered]] = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join()
    return _swap_figures(answers, first, promoted)


def _swap_figures(answers: list[list[Answered]], first: float, promoted: list[tuple[float, str]]) -> dict[str, Any]:
    """The figures of all swaps.

    In each environment a swap lasts from the move of the pointer to the last answer of the old release.
    """
    before = [took for loop in answers for began, took, _ in loop if first <= began < promoted[0][0]]
    during: list[float] = []
    first_new, last_old = [], []
    for moment, version in promoted:
        news, olds = [], []
        for loop in answers:
            window = [each for each in loop if moment <= each[0] < moment + SWAP_EVERY_SECONDS]
            new = min(began + took for began, took, by in window if by == version)
            old = max((began + took for began, took, by in window if by != version), default=moment)
            during += [took for began, took, _ in window if began <= max(old, new)]
            news.append(new - moment)
            olds.append(old - moment)
        first_new.append(min(news))
        last_old.append(max(olds))
    everything = [each for loop in answers for each in loop]
    return {
        "environments": len(answers),
        "swaps": len(promoted),
        "refresh_seconds": REFRESH_SECONDS,
        "requests": len(everything),
        "requests_during_swaps": len(during),
        "failed_requests": sum(by is None for _, _, by in everything),
        "p50_before_ms": round(statistics.median(before) * 1e3, 3),
        "p50_during_ms": round(statistics.median(during) * 1e3, 3),
        "p99_before_ms": round(percentile(before, 0.99) * 1e3, 3),
        "p99_during_ms": round(percentile(during, 0.99) * 1e3, 3),
        "p99_ratio": round(percentile(during, 0.99) / percentile(before, 0.99), 2),
        "first_new_s": round(statistics.median(first_new), 3),
        "last_old_s": round(statistics.median(last_old), 3),
    }


def looking(url: str, cache: str, parent: Connection) -> None:
    """One environment, in blocks of requests.

    In every second block it checks the channel all the time, in the others never.
    """
    os.environ["AWS_ENDPOINT_URL_S3"] = url
    app = start(cache, 0)
    current = app.service.follower
    latencies: dict[bool, list[float]] = {False: [], True: []}
    for number in range(BLOCKS * 2):
        look = number % 2 == 1
        if not look:
            # Wait until the last check has ended, and postpone the next one.
            while current._next_check == float("inf"):
                time.sleep(0.001)
            current._next_check = float("inf")
        else:
            current._next_check = 0.0
        for _ in range(BLOCK):
            began = time.perf_counter()
            app.lambda_handler(EVENT, None)
            latencies[look].append(time.perf_counter() - began)
    checks = current.counters.checks
    cpu = time.process_time()
    for _ in range(BLOCKS):
        current.start()
    parent.send((latencies[False], latencies[True], checks, (time.process_time() - cpu) / BLOCKS))


def measure_looks(url: str, scratch: Path) -> dict[str, Any]:
    """Request latency with as many checks as possible, and with none."""
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    child = spawn.Process(target=looking, args=(url, str(scratch / "cache-looks"), theirs), daemon=True)
    child.start()
    none, every, checks, cpu = mine.recv()
    child.join()
    return {
        "requests": len(every),
        "checks": checks,
        "cpu_ms_a_check": round(cpu * 1e3, 3),
        "none_median_ms": round(statistics.median(none) * 1e3, 3),
        "every_median_ms": round(statistics.median(every) * 1e3, 3),
        "none_p99_ms": round(percentile(none, 0.99) * 1e3, 3),
        "every_p99_ms": round(percentile(every, 0.99) * 1e3, 3),
        "added_ms_median": round((statistics.median(every) - statistics.median(none)) * 1e3, 3),
        "added_ms_p99": round((percentile(every, 0.99) - percentile(none, 0.99)) * 1e3, 3),
    }


def measure(folder: Path, scratch: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of swaps, and of checks."""
    from benchmarks.loopback import serving

    os.environ.update(CREDENTIALS)
    with serving("api") as url:
        return measure_swaps(url, folder, scratch), measure_looks(url, scratch)
