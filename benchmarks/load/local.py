"""Measures the local runtime: requests per second beside AWS's emulator, and a piece's way from the model to a client."""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from benchmarks.load import vanishing
from benchmarks.load.client import load
from benchmarks.load.served import ServeRun, serving, talking
from lambda_torch import project

RESULT = project.BUILD / "bench" / "local.json"
BODY = b'{"category":"Russian","start_letters":"RUS"}'
CLIENTS = 32
ROUNDS = 5
PIECES = 500
EVERY = 0.005


@contextlib.contextmanager
def checkout(revision: str | None) -> Iterator[Path | None]:
    """The project as it was at a revision, in a folder of its own. None without a revision."""
    if revision is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "archive", revision], cwd=project.ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        yield Path(folder)


def requests(release: Path, seconds: float, before: str | None) -> dict[str, Any]:
    """Requests per second and CPU time per request, in turns: own Runtime API, AWS's emulator, an earlier revision."""
    options = ["--memory", "1769", "--concurrency", "2", "--release", str(release.resolve())]
    found: dict[str, list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        services = {
            "own": stack.enter_context(serving(*options)),
            "shipped": stack.enter_context(serving(*options, "--runtime", "shipped")),
        }
        if (code := stack.enter_context(checkout(before))) is not None:
            services["before"] = stack.enter_context(serving(*options, code=code))
        for served in services.values():
            load([served.url], BODY, CLIENTS, 2)
        for _ in range(ROUNDS):
            for name, served in services.items():
                found.setdefault(name, []).append(_turn(served, seconds))
    rows = {
        name: {key: round(statistics.median(turn[key] for turn in turns), 3) for key in turns[0]}
        for name, turns in found.items()
    }
    ratios = {
        # Of turns next to each other, because other load on the machine changes by the minute.
        f"{key}_{what}": round(
            statistics.median(one[value] / two[value] for one, two in zip(found["own"], turns, strict=True)), 3
        )
        for key, turns in found.items()
        if key != "own"
        for what, value in (("requests_ratio", "rps"), ("cpu_ratio", "cpu_ms"))
    }
    return {"clients": CLIENTS, "rows": rows, **ratios}


def _turn(served: ServeRun, seconds: float) -> dict[str, float]:
    began, alone = served.cpu_seconds(), served.cpu_seconds(alone=True)
    figures = load([served.url], BODY, CLIENTS, seconds)
    if figures["errors"]:
        raise RuntimeError(f"{figures['errors']} requests failed")
    used, used_alone = served.cpu_seconds() - began, served.cpu_seconds(alone=True) - alone
    answered = figures["rps"] * seconds
    return {
        "rps": figures["rps"],
        "p50_ms": figures["p50_ms"],
        "cpu_ms": used / answered * 1e3,
        # Of these, what the command took, and not the function.
        "command_cpu_ms": used_alone / answered * 1e3,
    }


def overhead(served: ServeRun) -> dict[str, float]:
    """Milliseconds from a piece made in the model to its bytes at a client that reads at once."""
    address = urlsplit(served.url)
    body = json.dumps({"pieces": PIECES, "every": EVERY}).encode()
    took: list[float] = []
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        waiting = b""
        while b"event: end" not in waiting:
            data = connection.recv(65_536)
            now = time.time_ns()
            if not data:
                raise RuntimeError("the stream ended before its end")
            *complete, waiting = (waiting + data).split(b"\n\n")
            for each in complete:
                start = each.find(b'"made_ns":')
                if start >= 0:
                    took.append((now - int(each[start + 10 :].split(b",")[0])) / 1e6)
                elif b"event: end" in each:
                    waiting = each
    cuts = statistics.quantiles(took, n=100)
    return {"overhead_ms": round(cuts[49], 3), "overhead_p99_ms": round(cuts[98], 3), "pieces": len(took)}


@click.command()
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    help="Length of each of the ten measurements under load; 0 skips them.",
)
@click.option("--before", help="A revision of this repository whose `lambda-torch serve` is measured too.")
@click.option("--soak-seconds", default=600.0, show_default=True, help="Length of the soak; 0 skips it.")
def main(seconds: float, before: str | None, soak_seconds: float) -> None:
    """Measure the local runtime. The results are in build/bench/local.json."""
    from lambda_torch.names.default import a_release

    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if seconds:
            result |= {"requests": requests(a_release(), seconds, before)}
        with talking(Path(folder)) as served:
            result |= overhead(served)
    if soak_seconds:
        print(f"Soak with clients that go away, for {soak_seconds:.0f} s", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            result["soak"] = vanishing.measure(Path(folder), soak_seconds)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
