"""What the log and the metrics cost: Powertools' logger and metrics, and ours, in turns.

Imports are measured in a new process each, in CPU time beside what the function imports anyway; a request's line with its
metrics in this process, written to a file. Reported are medians.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from lambda_torch import project

IMPORTS = {
    "Powertools": "from aws_lambda_powertools import Logger, Metrics",
    "ours": "from serving import log, metrics",
}
STARTS = 9
LINES = 5000

# What the function has imported by then.
_IMPORT = """
import sys, time
sys.path.insert(0, {path!r})
import json, contextvars, pydantic
from pydantic import BaseModel
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


def import_seconds(statement: str) -> float:
    """CPU seconds of an import in a new process."""
    program = _IMPORT.format(path=str(project.SRC), statement=statement)
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def lines() -> dict[str, Callable[[int], object]]:
    """By name, what writes a request's line and its metrics."""
    from aws_lambda_powertools import Logger, Metrics
    from aws_lambda_powertools.metrics import MetricUnit

    from serving import metrics
    from serving.log import Log

    facts = {"request_id": "7b61c6af-0000-4000-8000-000000000000", "path": "/predict", "status": 200, "ms": 1.234}
    values = {"Requests": 1, "PredictMilliseconds": 0.98, "ReleaseAgeSeconds": 3600.5}
    logger = Logger(service="lambda-torch", level="INFO", location=None)
    powertools = Metrics(namespace="lambda-torch", service="lambda-torch")
    log = Log("INFO")

    def theirs(number: int) -> None:
        logger.info("request", extra={**facts, "number": number})
        for name, value in values.items():
            powertools.add_metric(name, MetricUnit.Count, value)
        powertools.flush_metrics()

    def ours(number: int) -> None:
        log.always("INFO", "request", {**facts, "number": number, **metrics.embedded(values)})

    return {"Powertools": theirs, "ours": ours}


def main() -> None:
    """Print the table and write build/bench/logs.json."""
    imports: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(STARTS):
        for name, statement in IMPORTS.items():
            imports[name].append(import_seconds(statement))
    taken: dict[str, list[float]] = {name: [] for name in IMPORTS}
    project.use_function_code()
    with tempfile.TemporaryFile("w") as file, contextlib.redirect_stdout(file):
        writers = lines()
        for number in range(LINES):
            for name, write in writers.items():
                start = time.perf_counter()
                write(number)
                taken[name].append(time.perf_counter() - start)
    rows = {
        name: {
            "import_cpu_ms": round(statistics.median(imports[name]) * 1e3, 2),
            "line_ms": round(statistics.median(taken[name]) * 1e3, 4),
        }
        for name in IMPORTS
    }
    target = project.BUILD / "bench" / "logs.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    print("| | import, ms of CPU | a request's lines, ms |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['import_cpu_ms']} | {row['line_ms']} |")


if __name__ == "__main__":
    main()
