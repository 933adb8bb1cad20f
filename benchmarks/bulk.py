"""Compares a bulk file that environments of the function answer with a plain loop over `Model.predict`.

Both use batches of the same size. The loop is what a person would write: it reads the file, makes requests of its
lines, predicts batch after batch, and writes lines. It runs in a process of its own, once with the number of threads
that PyTorch chooses and once with one thread. Which of the two is faster depends on the model and on the load of the
machine. The ratio is to the faster one.

Two such loops at the same time, each with half of the file, show how much there is to win: twice as much on two idle
cores, nothing where other programs use them. All ways take turns and write the same responses. Start-up is not counted:
it takes the same few seconds for any number of lines.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lambda_torch import project

LINES = int(os.environ.get("LAMBDA_TORCH_BULK_LINES", "100000"))
BATCH = 500
ROUNDS = 3
ENVIRONMENTS = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def write_input(path: Path, release: Path, lines: int) -> None:
    """Write this many requests for three names each. They are the same each time."""
    config = json.loads((release / "model.json").read_text())
    letters = [letter for letter in config["letters"] if letter.isupper()]
    drawn = random.Random(0)
    with path.open("w") as file:
        for _ in range(lines):
            request = {
                "category": drawn.choice(config["categories"]),
                "start_letters": "".join(drawn.choices(letters, k=3)),
            }
            file.write(json.dumps(request) + "\n")


def plain_loop(release: Path, source: Path, target: Path) -> float:
    """Seconds of the loop, without start-up.

    It runs in a process of its own, which prints `ready` and begins after a line of input.
    """
    project.use_function_code()
    from model import Model, Request

    model = Model.load(release)
    model.predict([model.example()])
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    with source.open() as lines, target.open("w") as file:
        index, requests = 0, []
        for line in lines:
            requests.append(Request.model_validate_json(line))
            if len(requests) == BATCH:
                index = _predict(model, requests, index, file)
                requests = []
        if requests:
            _predict(model, requests, index, file)
    return time.perf_counter() - started


def _predict(model: Any, requests: list[Any], index: int, file: Any) -> int:
    for index, response in enumerate(model.predict(requests), index):  # noqa: B020 (the count continues)
        file.write(f'{{"index":{index},"response":{response.model_dump_json()}}}\n')
    return index + 1


def through_environments(release: Path, source: Path, target: Path) -> float:
    """Seconds through the pool, start-up excluded."""
    from lambda_torch.bulk import lines, local_run
    from lambda_torch.bulk.output import Output
    from lambda_torch.emulator import run, software

    options = run.RunOptions(software.stock(), release, ENVIRONMENTS, memory_mb=1769, all_at_once=True)
    silent = run.Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
    with run.running(options, b'{"httpMethod":"GET","path":"/health"}', silent) as running:
        while running.pool.init_ms(ENVIRONMENTS) is None:  # the pool starts the others while the first one starts
            time.sleep(0.1)
        warm = [running.pool.submit(lines.Batch(0, [running.example.encode()] * BATCH).event()) for _ in range(8)]
        for each in warm:
            assert not each.result().failed
        started = time.perf_counter()
        checked = lines.read_input(source)
        with Output.opened(target, checked.sha256) as output:
            local_run.run(checked, output, running.pool, ENVIRONMENTS, BATCH, lambda _: None)
            output.complete = True
        return time.perf_counter() - started


def loops(release: Path, files: list[tuple[Path, Path]], variables: dict[str, str]) -> float:
    """Seconds of plain loops that run at the same time: for each input and output a process with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bulk", str(release), str(source), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=project.ROOT,
            env=inherited | variables,
        )
        for source, target in files
    ]
    for each in running:
        assert each.stdout is not None
        each.stdout.readline()
    for each in running:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return max(float(each.communicate()[0]) for each in running)


def halves(source: Path) -> list[tuple[Path, Path]]:
    """Two files with half of the lines each, and the files for their answers."""
    lines = source.read_bytes().splitlines(keepends=True)
    parts = (lines[: len(lines) // 2], lines[len(lines) // 2 :])
    files = [(source.with_name(f"{number}.jsonl"), source.with_name(f"{number}.out.jsonl")) for number in (1, 2)]
    for (half, _), part in zip(files, parts, strict=True):
        half.write_bytes(b"".join(part))
    return files


def measure(release: Path, lines: int = LINES) -> dict[str, Any]:
    """Run all ways in turns and return medians and their ratio, under the keys of build/bench/serving.json."""
    with tempfile.TemporaryDirectory() as scratch:
        source, plain, pooled = (Path(scratch, name) for name in ("in.jsonl", "plain.jsonl", "pooled.jsonl"))
        write_input(source, release, lines)
        times: dict[str, list[float]] = {"loop": [], "one_thread": [], "two": [], "pooled": []}
        two = halves(source)
        for _ in range(ROUNDS):
            times["loop"].append(loops(release, [(source, plain)], {}))
            times["one_thread"].append(loops(release, [(source, plain)], ONE_THREAD))
            times["two"].append(loops(release, two, ONE_THREAD))
            pooled.unlink(missing_ok=True)
            times["pooled"].append(through_environments(release, source, pooled))
            assert _responses(plain) == _responses(pooled)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    best = min(seconds["loop"], seconds["one_thread"])
    ratio = round(best / seconds["pooled"], 2)
    result = {
        "lines": lines,
        "batch": BATCH,
        "environments": ENVIRONMENTS,
        "loop_items_per_s": round(lines / seconds["loop"]),
        "loop_one_thread_items_per_s": round(lines / seconds["one_thread"]),
        "two_loops_items_per_s": round(lines / seconds["two"]),
        "two_loops_ratio": round(best / seconds["two"], 2),
        "bulk_items_per_s": round(lines / seconds["pooled"]),
        "ratio": ratio,
    }
    return {"bulk": result, "bulk_ratio": ratio}


def table(result: dict[str, Any]) -> str:
    """Items per second of each way, as Markdown."""
    rows = [
        ("a plain loop", "loop_items_per_s", None),
        ("the same with one thread", "loop_one_thread_items_per_s", None),
        ("two such loops at the same time", "two_loops_items_per_s", "two_loops_ratio"),
        (f"bulk, {result['environments']} environments", "bulk_items_per_s", "ratio"),
    ]
    title = f"| {result['lines']:,} lines, {result['batch']} in a batch | items/s | ratio to the faster single loop |"
    cells = [f"| {name} | {result[key]:,} | {f'{result[ratio]} x' if ratio else ''} |" for name, key, ratio in rows]
    return "\n".join([title, "|---|---|---|", *cells])


def _responses(path: Path) -> list[Any]:
    return [json.loads(line)["response"] for line in path.read_text().splitlines()]


def main() -> None:
    """Print the figures and add `bulk` and `bulk_ratio` to build/bench/serving.json."""
    from lambda_torch.names.default import a_release

    part = measure(a_release())
    target = project.BUILD / "bench" / "serving.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps({**known, **part}, indent=1) + "\n")
    print(table(part["bulk"]))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(plain_loop(*map(Path, sys.argv[1:])))
    else:
        main()
