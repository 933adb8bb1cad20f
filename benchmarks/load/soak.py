"""Keeps two environments busy with all kinds of requests, and counts errors and memory."""

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lambda_torch.emulator import software
from lambda_torch.emulator.run import Reports, RunOptions, running

ENVIRONMENTS = 2
SAMPLE_SECONDS = 1.0
# The first part of the run warms up allocators and caches. Growth is that from the first tenth of the rest to the last.
WARM_SHARE = 0.1

GOOD = {"category": "Russian", "start_letters": "RUS"}
# method, path, body, expected status
MIX: list[tuple[str, str, Any, int]] = [
    ("POST", "/predict", GOOD, 200),
    ("POST", "/predict", GOOD | {"temperature": 0.8}, 200),
    (
        "POST",
        "/predict",
        [GOOD, {"category": "Klingon", "start_letters": "Q"}, GOOD | {"start_letters": "A" * 64}],
        200,
    ),
    ("POST", "/predict", {"category": "Klingon", "start_letters": "Q"}, 400),
    ("POST", "/predict", "not a request", 400),
    ("GET", "/health", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/", None, 200),
    ("GET", "/nowhere", None, 404),
]


def event(method: str, path: str, body: Any) -> bytes:
    """An event as a REST API sends it."""
    text = None if body is None else json.dumps(body)
    return json.dumps({"httpMethod": method, "path": path, "headers": {}, "body": text}).encode()


def function_bytes() -> int:
    """Resident memory of the function's processes in bytes. They are descendants of this process."""
    found, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if b"bootstrap.py" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    pages = 0
    for process in found:
        ancestor = process
        while ancestor not in (0, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            pages += int(Path("/proc", str(process), "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(release: Path, seconds: float) -> dict[str, Any]:
    """Run the mix of requests. Errors are answers with an unexpected status, and lost environments."""
    notes: list[str] = []
    reports = Reports(step=lambda _: None, note=notes.append, log=lambda _: None)
    counts = [0, 0]
    samples: list[tuple[float, int]] = []
    options = RunOptions(software.stock(), release, ENVIRONMENTS, memory_mb=1769)
    with running(options, event("GET", "/health", None), reports) as run:
        # All at the same time, so that every environment starts.
        for early in [run.pool.submit(event("POST", "/predict", GOOD)) for _ in range(20)]:
            early.result()
        began = time.monotonic()
        end = began + seconds

        def client() -> None:
            sent = [(event(method, path, body), status) for method, path, body, status in MIX]
            while time.monotonic() < end:
                for payload, status in sent:
                    outcome = run.pool.submit(payload).result()
                    right = not outcome.failed and json.loads(outcome.payload)["statusCode"] == status
                    counts[0] += 1
                    counts[1] += not right

        # One client more than environments, so that none is idle. Threads that count at the same time may lose a count.
        clients = [threading.Thread(target=client) for _ in range(ENVIRONMENTS + 1)]
        for each in clients:
            each.start()
        while time.monotonic() < end:
            time.sleep(SAMPLE_SECONDS)
            samples.append((time.monotonic() - began, function_bytes()))
            if len(samples) % 60 == 0:
                print(f"{samples[-1][0]:.0f} s: {counts[0]:,} requests, {counts[1]} errors", file=sys.stderr)
        for each in clients:
            each.join()
    starts = sum("All environments are busy" in note for note in notes)
    warm = [size for at, size in samples if at >= WARM_SHARE * seconds]
    tenth = max(1, len(warm) // 10)
    first, last = statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])
    return {
        "seconds": round(seconds),
        "requests": counts[0],
        "errors": counts[1] + len(notes) - starts,
        "first_mb": round(first / 1e6, 1),
        "last_mb": round(last / 1e6, 1),
        "rss_growth_ratio": round(last / first, 4),
    }
