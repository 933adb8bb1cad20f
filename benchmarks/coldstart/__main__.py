"""Measures the first answer of the sample function, for each way to bring PyTorch to Lambda: `make bench-coldstart`.

Every start is a new process under Lambda's own emulator. It runs in the test box where the machine allows it. It has
the real handler, a release in an S3 API on this machine, and one request. The candidates take turns, so a machine that
slows down slows all of them. The tables show medians, and the range of the middle half of the starts. All candidates
but ONNX Runtime have the same function. Three models are measured: the sample function, and the examples of sentence
embeddings and of chat. Each has its own part of the JSON file.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.coldstart import candidates, onnx, picture, results, starts
from benchmarks.coldstart.candidates import Candidate
from benchmarks.coldstart.results import Setting
from benchmarks.coldstart.subjects import SUBJECTS, Subject
from benchmarks.layer.measure import drop_page_cache
from lambda_torch import project
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import CREDENTIALS, Storage
from lambda_torch.releases.bucket import Bucket
from serving.releases import golden

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


class _Found:
    """What was measured of one subject.

    Attributes:
        series: the starts, by setting and candidate.
        page_cache: "dropped", or why it cannot be dropped here.
        where: where the starts ran, for people.
    """

    def __init__(self, subject: Subject, release: Path, chosen: list[Candidate]) -> None:
        self.subject = subject
        self.release = release
        self.chosen = chosen
        self.series: dict[Setting, dict[str, list[starts.Start]]] = {}
        self.page_cache = "dropped"
        self.where = ""

    def measure(self, plan: dict[bool, tuple[tuple[int, ...], int]]) -> None:
        """Run the plan: for the page cache dropped and not dropped, which memory sizes, and how many starts."""
        with Processes() as processes, tempfile.TemporaryDirectory(prefix="coldstart-") as folder:
            Path(folder).chmod(0o755)
            storage = Storage(processes, Path(folder), "torch")
            variables = self._published(storage)
            with starts.runner(Path(folder)) as (run, self.where):
                _say(f"  starts run {self.where}")
                for dropped, (memories, runs) in plan.items():
                    reason = drop_page_cache() if dropped else ""
                    if reason:
                        self.page_cache = reason
                        return
                    for memory in memories:
                        setting = Setting(memory, dropped)
                        self.series[setting] = self._starts(setting, runs, run, variables)

    def _published(self, storage: Storage) -> dict[str, dict[str, str]]:
        """Publish the releases, each in a bucket of its own. Returns each candidate's environment variables."""
        client = storage.client()
        client.create_bucket(Bucket="onnx")
        # In a process of its own, because a process uses one package `model`.
        command = [sys.executable, "-c", "from lambda_torch.cli import main; main()", "publish", str(self.release)]
        command += ["--bucket", "torch", "--endpoint-url", storage.url, "--no-try-processors"]
        command += [] if self.subject.folder is None else ["--model", str(self.subject.folder)]
        command += [] if self.subject.golden is None else ["--golden", str(self.subject.golden)]
        done = subprocess.run(command, env=os.environ | CREDENTIALS, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.release} cannot be published:\n{done.stderr.strip()[-2000:]}")
        published = Bucket(client, "torch").release(done.stdout.strip())
        buckets = {each.name: "torch" if each.release == self.release else "onnx" for each in self.chosen}
        for each in self.chosen:
            if buckets[each.name] == "onnx":
                onnx.publish(each.release, published.manifest, Bucket(client, "onnx"))
        return {name: {"MODEL_BUCKET": bucket, "AWS_ENDPOINT_URL_S3": storage.url} for name, bucket in buckets.items()}

    def _starts(
        self, setting: Setting, runs: int, run: starts.Runner, variables: dict[str, dict[str, str]]
    ) -> dict[str, list[starts.Start]]:
        found: dict[str, list[starts.Start]] = {each.name: [] for each in self.chosen}
        # The first round fills the page cache. It does not count.
        for number in range(0 if not setting.dropped else 1, runs + 1):
            for candidate in self.chosen:
                if setting.dropped:
                    drop_page_cache()
                start = run(candidate, self.subject.event, setting.memory_mb, variables[candidate.name])
                _say(
                    f"  {self.subject.name}, {setting.title}, start {number} of {runs}: {candidate.name} "
                    f"{start.wall_s:.2f} s, CPU {start.cpu_s:.2f} s"
                )
                if number:
                    found[candidate.name].append(start)
        return found

    def report(self, runs: int) -> dict[str, Any]:
        """The subject's part of the JSON file.

        Raises:
            SystemExit: the candidates give different answers.
        """
        answers = [start.answer for each in self.series.values() for several in each.values() for start in several]
        for answer in answers:
            if difference := golden.compare(answer, answers[0], self.subject.tolerance):
                raise SystemExit(f"The candidates give different answers to {self.subject.title}: {difference}")
        figures = {each.name: results.summary(each, self.series) for each in self.chosen}
        machine = {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": version("torch"),
            "load": os.getloadavg()[1],
            "where": self.where,
            "page_cache": self.page_cache,
        }
        goals = results.ratios(figures, self.subject.goals)
        layer = next(each for each in self.chosen if each.name == "ours").opt
        size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
        return {
            "title": self.subject.title,
            "machine": machine,
            "runs": runs,
            "candidates": figures,
            "layer_bytes": size,
            "goals": goals,
        }


def main(argv: list[str] | None = None) -> None:
    """Make the candidates, measure them, print the tables, and write the JSON file and the picture."""
    names = [each.name for each in SUBJECTS]
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
    parser.add_argument(
        "--subject",
        action="append",
        choices=names,
        help="only this model (repeatable). The others keep their last figures in the JSON file.",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file (default: build/bench/coldstart.json)")
    parser.add_argument(
        "--picture", type=Path, help="SVG file (default: docs/coldstart.svg; none with --quick or --only)"
    )
    options = parser.parse_args(argv)
    runs = QUICK_RUNS if options.quick else options.runs
    cold_runs = runs if options.cold_runs is None or options.quick else options.cold_runs
    started = time.monotonic()
    chosen = [each for each in SUBJECTS if not options.subject or each.name in options.subject]
    for subject in chosen:
        release = subject.release()
        found = _Found(subject, release, candidates.make(subject, release, options.layer.resolve(), _say, options.only))
        memories = subject.sizes[:1] if options.quick else subject.sizes
        try:
            found.measure({False: (memories, runs), True: (memories, cold_runs)})
        except KeyboardInterrupt:
            if not found.series:
                raise
            _say("  stopped: the report has only the settings that were measured completely")
            _report(options, found, runs)
            break
        _report(options, found, runs)
    _say(f"written to {options.output}, after {(time.monotonic() - started) / 60:.1f} minutes")


def _report(options: argparse.Namespace, found: _Found, runs: int) -> None:
    """Print a subject's tables, write its part of the JSON file, draw the picture."""
    report = found.report(runs)
    output: Path = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    # The sample function's figures are at the top level, where they were before there were other models.
    known = json.loads(output.read_text()) if output.exists() else {}
    if found.subject.name == SUBJECTS[0].name:
        whole = {**report, "models": known.get("models", {})}
    else:
        whole = {**known, "models": {**known.get("models", {}), found.subject.name: report}}
    output.write_text(json.dumps(whole, indent=1) + "\n")
    figures, machine = report["candidates"], report["machine"]
    for setting in found.series:
        print(results.table(figures, setting) + "\n")
    print(results.goals_table(report["goals"], report["title"]))
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}; "
        f"{machine['where']}.\n"
    )
    if machine["page_cache"] != "dropped":
        print(f"There are no figures for reading from storage: {machine['page_cache']}.\n")
    default = PICTURE if found.subject.name == SUBJECTS[0].name and not (options.quick or options.only) else None
    target = options.picture or default
    if target is not None and found.subject.name == SUBJECTS[0].name:
        first = next(iter(found.series))
        bars = [
            picture.Bar(name, each["title"], each["settings"][first.name]["phases"]) for name, each in figures.items()
        ]
        words = f"{first.title}; median of {runs} starts of each, in turns, {machine['where']}"
        target.write_text(picture.draw(bars, "First answer of the sample function, from process start", words))
        _say(f"drawn in {target}")


if __name__ == "__main__":
    main()
