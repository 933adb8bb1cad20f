"""Measures the serving path under load: `make bench-serving`. Each part adds its keys to build/bench/serving.json."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import bulk
from benchmarks.load import rates, soak
from lambda_torch import project

RESULT = project.BUILD / "bench" / "serving.json"


def keep(part: dict[str, Any]) -> None:
    """Add a part's keys to the result."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, **part}, indent=1) + "\n")


def overhead() -> dict[str, Any]:
    """Compare the handler with the bare model, for a request of three letters. Runs in a process of its own."""
    subprocess.run([sys.executable, "-m", "benchmarks.overhead"], check=True, cwd=project.ROOT)
    rows = json.loads((RESULT.parent / "overhead.json").read_text())["rows"]
    (row,) = [row for row in rows if row["start_letters"] == 3]
    return {"overhead": row, "overhead_ratio": round(row["handler_ms"] / row["predict_ms"], 3)}


def table(load: dict[str, Any]) -> str:
    """Requests per second, p50 and p99, for each number of clients, as Markdown."""
    lines = ["| clients | function: requests/s, p50, p99 | FastAPI | local pool |", "|---|---|---|---|"]
    for row in load["rows"]:
        cells = [
            f"{row[name]['rps']:,.0f}, {row[name]['p50_ms']:.2f} ms, {row[name]['p99_ms']:.2f} ms"
            for name in ("function", "fastapi", "pool")
        ]
        lines.append(f"| {row['clients']} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", f"The bare model in a loop, in {load['workers']} processes: {load['bare_rps']:,.0f} requests/s."]
    )


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="Length of each measurement under load; there are 39.")
@click.option("--bulk-lines", default=bulk.LINES, show_default=True, help="Lines of the bulk file; 0 skips this part.")
@click.option("--soak-seconds", default=600.0, show_default=True, help="Length of the soak test; 0 skips it.")
def main(seconds: float, bulk_lines: int, soak_seconds: float) -> None:
    """Measure the serving path under load. The results are in build/bench/serving.json."""
    from lambda_torch.names.default import a_release

    release = a_release()
    keep(overhead())
    with tempfile.TemporaryDirectory() as scratch:
        load = rates.measure(release, Path(scratch), seconds)
    keep({"load": load, "fastapi_ratio": load["fastapi_ratio"]})
    print(table(load))
    if bulk_lines:
        print(f"Answering {bulk_lines:,} lines, three times in each way", file=sys.stderr)
        part = bulk.measure(release, bulk_lines)
        keep(part)
        print(bulk.table(part["bulk"]))
    if soak_seconds:
        print(f"Soak test for {soak_seconds:.0f} s", file=sys.stderr)
        keep({"soak": soak.measure(release, soak_seconds)})
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
