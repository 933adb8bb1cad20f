"""Measures what joining requests gains: `python -m benchmarks.load.joined` (`make bench-joined`).

Clients send single requests in closed loops to three `lambda-torch serve` that run at the same time, in turns. Each has
one environment. One answers every request alone, one joins up to 16 requests that come within 5 ms, and one joins those
that wait for the environment in any case. The first model is the sample model, whose event takes longer than its
answer; the second is examples/embeddings with one sentence, whose answer takes longer.
"""

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.load.client import load
from benchmarks.load.served import ServeRun, serving
from lambda_torch import project
from lambda_torch.names.default import a_release

RESULT = project.BUILD / "bench" / "joined.json"
EMBEDDINGS = project.ROOT / "examples" / "embeddings"
CLIENTS = (1, 4, 16, 64)
ROUNDS = 3
WAYS = {
    "alone": (),
    "within 5 ms": ("--batch", "16", "--batch-milliseconds", "5"),
    "without a wait": ("--batch", "16", "--batch-milliseconds", "0"),
}
SENTENCE = {"texts": ["Someone slices the bread while the soup is getting warm on the stove."]}


def _models() -> dict[str, tuple[list[str], dict[str, Any]]]:
    """For each model: the options of `serve`, and a request."""
    return {
        "names": (["--release", str(a_release().resolve())], {"category": "Russian", "start_letters": "RUS"}),
        "embeddings": (["--model", str(EMBEDDINGS)], SENTENCE),
    }


def measure(options: list[str], request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """The rows of one model: for each number of clients, the medians of each way, and their ratios to `alone`."""
    body = json.dumps(request).encode()
    with contextlib.ExitStack() as stack:
        services: dict[str, ServeRun] = {
            way: stack.enter_context(serving(*options, "--memory", "1769", "--concurrency", "1", *more))
            for way, more in WAYS.items()
        }
        for served in services.values():
            load([served.url], body, 16, 2)
        rows = []
        for clients in CLIENTS:
            found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for _ in range(ROUNDS):
                for way, served in services.items():
                    figures = load([served.url], body, clients, seconds)
                    if figures["errors"]:
                        raise RuntimeError(f"{way}: {figures['errors']} requests failed")
                    found[way].append(figures)
            row: dict[str, Any] = {"clients": clients}
            for way, turns in found.items():
                row[way] = {key: statistics.median(each[key] for each in turns) for key in ("rps", "p50_ms", "p99_ms")}
                # Of turns next to each other, because other load on the machine changes by the minute.
                row[way]["ratio"] = round(
                    statistics.median(
                        one["rps"] / alone["rps"] for one, alone in zip(turns, found["alone"], strict=True)
                    ),
                    2,
                )
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def table(result: dict[str, list[dict[str, Any]]]) -> str:
    """The figures as Markdown."""
    lines = ["| model, clients | " + " | ".join(WAYS) + " |", "|---|" + "---|" * len(WAYS)]
    for model, rows in result.items():
        for row in rows:
            cells = [
                f"{row[way]['rps']:,.0f}/s, {row[way]['p50_ms']:.1f} ms, {row[way]['p99_ms']:.1f} ms"
                + ("" if way == "alone" else f": {row[way]['ratio']} x")
                for way in WAYS
            ]
            lines.append(f"| {model}, {row['clients']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and write build/bench/joined.json."""
    models = _models()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.joined", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--model", choices=models, action="append", help="only this one; the others keep their figures")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in options.model or models:
        result[name] = measure(*models[name], options.seconds)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
