"""Measures the first answer of the sample function, for each way to bring PyTorch to Lambda: `make bench-coldstart`.

Every start is a new process under Lambda's own emulator. It runs in the test box where the machine allows it. It has
the real handler, a release in an S3 API on this machine, and one request. The candidates take turns, so a machine that
slows down slows all of them. The tables show medians, and the range of the middle half of the starts. All candidates
but ONNX Runtime have the same function.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.coldstart import candidates, onnx, picture, results, starts
from benchmarks.coldstart.candidates import Candidate
from benchmarks.coldstart.results import Setting
from benchmarks.layer.measure import drop_page_cache
from lambda_torch import project
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import Storage
from lambda_torch.names.default import a_release
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

OUTPUT = project.BUILD / "bench" / "coldstart.json"
PICTURE = project.ROOT / "docs" / "coldstart.svg"
RUNS, COLD_RUNS = 7, 7
QUICK_RUNS = 2


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _series(
    setting: Setting,
    chosen: list[Candidate],
    runs: int,
    run: starts.Runner,
    variables: dict[str, dict[str, str]],
) -> dict[str, list[starts.Start]]:
    found: dict[str, list[starts.Start]] = {each.name: [] for each in chosen}
    # The first round fills the page cache. It does not count.
    for number in range(0 if not setting.dropped else 1, runs + 1):
        for candidate in chosen:
            if setting.dropped:
                drop_page_cache()
            start = run(candidate, setting.memory_mb, variables[candidate.name])
            _say(
                f"  {setting.title}, start {number} of {runs}: {candidate.name} {start.wall_s:.2f} s, CPU {start.cpu_s:.2f} s"
            )
            if number:
                found[candidate.name].append(start)
    return found


def main(argv: list[str] | None = None) -> None:
    """Make the candidates, measure them, print the tables, and write the JSON file and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldstart", description=__doc__)
    parser.add_argument("--layer", type=Path, default=project.LAYER, help="the layer's folder (default: build/layer)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help=f"counted starts for each candidate, page cache warm (default: {RUNS})"
    )
    parser.add_argument(
        "--cold-runs", type=int, help=f"starts for each candidate, page cache dropped (default: as --runs, {COLD_RUNS})"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"only {QUICK_RUNS} starts each, at 1,769 MB: a first look, no figures to quote",
    )
    parser.add_argument(
        "--only", action="append", help="only candidates whose name contains this text, and this layer (repeatable)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file (default: build/bench/coldstart.json)")
    parser.add_argument(
        "--picture", type=Path, help="SVG file (default: docs/coldstart.svg; none with --quick or --only)"
    )
    options = parser.parse_args(argv)
    runs = QUICK_RUNS if options.quick else options.runs
    cold_runs = runs if options.cold_runs is None or options.quick else options.cold_runs
    memories = (1769,) if options.quick else (1769, 3008)
    started = time.monotonic()

    series: dict[Setting, dict[str, list[starts.Start]]] = {}
    facts = {"where": "", "page_cache": "dropped"}
    release = a_release()
    chosen = candidates.make(release, options.layer.resolve(), _say, options.only)
    try:
        _measure(chosen, release, series, facts, {False: (memories, runs), True: (memories, cold_runs)})
    except KeyboardInterrupt:
        if not series:
            raise
        _say("  stopped: the report has only the settings that were measured completely")
    _report(options, chosen, series, facts, runs)
    _say(f"written to {options.output}, after {(time.monotonic() - started) / 60:.1f} minutes")


def _measure(
    chosen: list[Candidate],
    release: Path,
    series: dict[Setting, dict[str, list[starts.Start]]],
    facts: dict[str, str],
    plan: dict[bool, tuple[tuple[int, ...], int]],
) -> None:
    """Run the plan and fill `series` and `facts`.

    The plan says, for the page cache dropped and not dropped: which memory sizes, and how many starts.
    """
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="coldstart-") as folder:
        Path(folder).chmod(0o755)
        storage = Storage(processes, Path(folder), "torch")
        client = storage.client()
        client.create_bucket(Bucket="onnx")
        published = publish(release, Bucket(client, "torch"))
        for each in chosen:
            if each.release != release:
                onnx.publish(each.release, published.release.manifest, Bucket(client, "onnx"))
        buckets = {each.name: "torch" if each.release == release else "onnx" for each in chosen}
        variables = {
            name: {"MODEL_BUCKET": bucket, "AWS_ENDPOINT_URL_S3": storage.url} for name, bucket in buckets.items()
        }
        with starts.runner(Path(folder)) as (run, where):
            facts["where"] = where
            _say(f"  starts run {where}")
            for dropped, (memories, runs) in plan.items():
                reason = drop_page_cache() if dropped else ""
                if reason:
                    facts["page_cache"] = reason
                    return
                for memory in memories:
                    setting = Setting(memory, dropped)
                    series[setting] = _series(setting, chosen, runs, run, variables)


def _report(
    options: argparse.Namespace,
    chosen: list[Candidate],
    series: dict[Setting, dict[str, list[starts.Start]]],
    facts: dict[str, str],
    runs: int,
) -> None:
    """Print the tables, write the JSON, draw the picture."""
    answers = {tuple(start.names) for each in series.values() for several in each.values() for start in several}
    if len(answers) != 1:
        raise SystemExit(f"The candidates give different answers: {answers}")
    found = {each.name: results.summary(each, series) for each in chosen}
    goals = results.ratios(found)
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": os.getloadavg()[1],
        **facts,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "runs": runs, "candidates": found, "goals": goals}
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for setting in series:
        print(results.table(found, setting) + "\n")
    print(results.goals_table(goals))
    where = facts["where"]
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}; {where}."
    )
    if facts["page_cache"] != "dropped":
        print(f"There are no figures for reading from storage: {facts['page_cache']}.")
    target = options.picture or (None if options.quick or options.only else PICTURE)
    if target is not None:
        first = next(iter(series))
        bars = [
            picture.Bar(name, each["title"], each["settings"][first.name]["phases"]) for name, each in found.items()
        ]
        words = f"{first.title}; median of {runs} starts of each, in turns, {where}"
        target.write_text(picture.draw(bars, "First answer of the sample function, from process start", words))
        _say(f"drawn in {target}")


if __name__ == "__main__":
    main()
