"""Measures what the function saves where it has its own code in the place of a library.

A row about a start is measured in new processes, the library and our code in turns. It is the CPU time from the first
import until the code can be used. What the function imports in any case does not count. The last row is the log line
and the metrics of a request, written to a file by one process. All figures are medians.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from lambda_torch import project

STARTS = 9
LINES = 5000


class Pair(NamedTuple):
    """What is compared: Python statements. `before` is what the function imports anyway; it is not timed."""

    library: str
    ours: str
    before: str = "from serving import settings; from serving.releases import format"

    def ways(self) -> dict[str, str]:
        """The two statements, by name."""
        return {"library": self.library, "ours": self.ours}


PAIRS = {
    "S3: boto3 and a client, or `serving.storage.signed`": Pair(
        "from serving.storage.boto import BotoObjects, open_client; BotoObjects(open_client())",
        "from serving.storage import signed; from serving.settings import AwsEnvironment as A; "
        "signed.open_objects(A.from_environment())",
    ),
    "routes: Powertools' event handler, or `serving.http.routes`": Pair(
        "from aws_lambda_powertools.event_handler import APIGatewayHttpResolver as R; R()",
        "from serving.http.routes import dispatch",
        before="from serving.http import events, service, validation",
    ),
    "log and metrics: Powertools, or `serving.telemetry.log` and `serving.telemetry.emf`": Pair(
        "from aws_lambda_powertools import Logger, Metrics; Logger(service='a'); Metrics(namespace='a', service='a')",
        "from serving.telemetry import emf; from serving.telemetry.log import Log; Log('INFO')",
    ),
}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}

# The first imports stand for what the runtime client and the function have imported in any case.
_PROGRAM = """
import sys, time
sys.path.insert(0, {path!r})
import http.client, json, logging, contextvars, pydantic
{before}
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


def import_seconds(before: str, statement: str) -> float:
    """CPU seconds of a statement in a new process, which has run what comes before."""
    program = _PROGRAM.format(path=str(project.SRC), before=before, statement=statement)
    environment = {"PATH": os.defpath, **ENVIRONMENT, "AWS_DEFAULT_REGION": ENVIRONMENT["AWS_REGION"]}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def lines() -> dict[str, Callable[[int], object]]:
    """The functions that write a request's log line and metrics, by name."""
    from aws_lambda_powertools import Logger, Metrics
    from aws_lambda_powertools.metrics import MetricUnit

    from serving.telemetry.emf import Metrics as OurMetrics
    from serving.telemetry.log import Log

    facts = {"request_id": "7b61c6af-0000-4000-8000-000000000000", "path": "/predict", "status": 200, "ms": 1.234}
    values = {"Requests": 1, "PredictMilliseconds": 0.98, "ReleaseAgeSeconds": 3600.5}
    logger = Logger(service="lambda-torch", level="INFO", location=None)
    powertools = Metrics(namespace="lambda-torch", service="lambda-torch")
    log, metrics = Log("INFO"), OurMetrics("local")

    def theirs(number: int) -> None:
        logger.info("request", extra={**facts, "number": number})
        for name, value in values.items():
            powertools.add_metric(name, MetricUnit.Count, value)
        powertools.flush_metrics()

    def ours(number: int) -> None:
        log.write("INFO", "request", {**facts, "number": number}, metrics.embedded(values))

    return {"library": theirs, "ours": ours}


def measure_imports() -> dict[str, dict[str, float]]:
    """Milliseconds of CPU time of each row."""
    taken: dict[str, dict[str, list[float]]] = {name: {"library": [], "ours": []} for name in PAIRS}
    for number in range(STARTS):
        print(f"  starts {number + 1} of {STARTS}", file=sys.stderr)
        for name, pair in PAIRS.items():
            for way, statement in pair.ways().items():
                taken[name][way].append(import_seconds(pair.before, statement))
    return {
        name: {way: round(statistics.median(each) * 1e3, 2) for way, each in ways.items()}
        for name, ways in taken.items()
    }


def measure_lines() -> dict[str, float]:
    """Milliseconds of a request's lines, for the library and for our code."""
    taken: dict[str, list[float]] = {"library": [], "ours": []}
    project.use_function_code()
    with tempfile.TemporaryFile("w") as file, contextlib.redirect_stdout(file):
        writers = lines()
        for number in range(LINES):
            for way, write in writers.items():
                start = time.perf_counter()
                write(number)
                taken[way].append(time.perf_counter() - start)
    return {way: round(statistics.median(each) * 1e3, 4) for way, each in taken.items()}


def main() -> None:
    """Print the table and write build/bench/imports.json."""
    rows = measure_imports() | {"log line and metrics of one request, ms": measure_lines()}
    target = project.BUILD / "bench" / "imports.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    print("| CPU time of a start, ms | library | ours |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['library']} | {row['ours']} |")


if __name__ == "__main__":
    main()
