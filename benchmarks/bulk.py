"""Compares a bulk file that environments of the function answer with a plain loop over `Model.predict`.

Both use batches of the same size. The loop is what a person would write: it reads the file, makes requests of its
lines, predicts batch after batch, and writes lines. It runs in a process of its own, once with the number of threads
that PyTorch chooses and once with one thread. Which of the two is faster depends on the model and on the load of the
machine. The ratio is to the faster one.

`python -m benchmarks.bulk embeddings` does the same with examples/embeddings, whose model takes longer for a line than
the way of a line to the function and back. There the ratio to the loop with one thread counts.

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

project.use_function_code()
from serving.releases import golden  # noqa: E402

LINES = int(os.environ.get("LAMBDA_TORCH_BULK_LINES", "100000"))
EMBEDDINGS = project.ROOT / "examples" / "embeddings"
EMBEDDED_LINES = int(os.environ.get("LAMBDA_TORCH_BULK_LINES", "2000"))
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


def write_sentences(path: Path, release: Path, lines: int) -> None:
    """Write this many requests for one sentence of 4 to 24 words each. They are the same each time."""
    pieces = (release / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = [each for each in pieces if each.isascii() and each.isalpha() and len(each) > 2]
    drawn = random.Random(0)
    with path.open("w") as file:
        for _ in range(lines):
            sentence = " ".join(drawn.choices(words, k=drawn.randint(4, 24)))
            file.write(json.dumps({"texts": [sentence]}) + "\n")


def plain_loop(release: Path, source: Path, target: Path, folder: Path | None = None) -> float:
    """Seconds of the loop, without start-up. `folder` has the package `model`; None means src/model.

    It runs in a process of its own, which prints `ready` and begins after a line of input.
    """
    project.use_function_code(folder)
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


def through_environments(release: Path, source: Path, target: Path, folder: Path | None = None) -> float:
    """Seconds through the pool, start-up excluded."""
    from lambda_torch.bulk import lines, local_run
    from lambda_torch.bulk.output import Output
    from lambda_torch.emulator import run, software

    options = run.RunOptions(software.stock(), release, ENVIRONMENTS, memory_mb=1769, all_at_once=True, model=folder)
    silent = run.Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
    with run.running(options, b'{"httpMethod":"GET","path":"/health"}', silent) as running:
        while running.pool.init_ms(ENVIRONMENTS) is None:  # the pool starts the others while the first one starts
            time.sleep(0.1)
        count = BATCH if folder is None else 10
        warm = [running.pool.submit(lines.Batch(0, [running.example.encode()] * count).event()) for _ in range(8)]
        for each in warm:
            assert not each.result().failed
        started = time.perf_counter()
        checked = lines.read_input(source)
        with Output.opened(target, checked.sha256) as output:
            local_run.run(checked, output, running.pool, ENVIRONMENTS, BATCH, lambda _: None)
            output.complete = True
        return time.perf_counter() - started


def loops(
    release: Path, files: list[tuple[Path, Path]], variables: dict[str, str], folder: Path | None = None
) -> float:
    """Seconds of plain loops that run at the same time: for each input and output a process with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bulk", *map(str, filter(None, (release, source, target, folder)))],
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


def measure(release: Path, lines: int = LINES, folder: Path | None = None) -> dict[str, Any]:
    """Run all ways in turns and return medians and their ratio, under the keys of build/bench/serving.json."""
    project.use_function_code(folder)
    with tempfile.TemporaryDirectory() as scratch:
        source, plain, pooled = (Path(scratch, name) for name in ("in.jsonl", "plain.jsonl", "pooled.jsonl"))
        (write_input if folder is None else write_sentences)(source, release, lines)
        times: dict[str, list[float]] = {"loop": [], "one_thread": [], "two": [], "pooled": []}
        two = halves(source)
        for _ in range(ROUNDS):
            times["loop"].append(loops(release, [(source, plain)], {}, folder))
            times["one_thread"].append(loops(release, [(source, plain)], ONE_THREAD, folder))
            times["two"].append(loops(release, two, ONE_THREAD, folder))
            pooled.unlink(missing_ok=True)
            times["pooled"].append(through_environments(release, source, pooled, folder))
            _compare(plain, pooled, 0.0 if folder is None else 1e-5)
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
        "ratio_to_one_thread": round(seconds["one_thread"] / seconds["pooled"], 2),
        "two_loops_ratio_to_one_thread": round(seconds["one_thread"] / seconds["two"], 2),
    }
    return {"bulk": result, "bulk_ratio": ratio}


def _compare(plain: Path, pooled: Path, tolerance: float) -> None:
    """Stop if the two files have other responses. Batches of other sizes may round differently."""
    for number, (one, other) in enumerate(zip(_responses(plain), _responses(pooled), strict=True)):
        if difference := golden.compare(other, one, tolerance):
            raise SystemExit(f"Line {number} has another answer: {difference}")


def table(result: dict[str, Any]) -> str:
    """Items per second of each way, as Markdown."""
    rows = [
        ("a plain loop", "loop_items_per_s", ()),
        ("the same with one thread", "loop_one_thread_items_per_s", ()),
        (
            "two such loops at the same time",
            "two_loops_items_per_s",
            ("two_loops_ratio", "two_loops_ratio_to_one_thread"),
        ),
        (f"bulk, {result['environments']} environments", "bulk_items_per_s", ("ratio", "ratio_to_one_thread")),
    ]
    title = (
        f"| {result['lines']:,} lines, {result['batch']} in a batch | items/s | ratio to the faster single loop "
        "| to the loop with one thread |"
    )
    cells = []
    for name, key, ratios in rows:
        one, other = [f"{result[each]} x" for each in ratios] or ["", ""]
        cells.append(f"| {name} | {result[key]:,} | {one} | {other} |")
    return "\n".join([title, "|---|---|---|---|", *cells])


def _responses(path: Path) -> list[Any]:
    return [json.loads(line)["response"] for line in path.read_text().splitlines()]


def main(what: str = "names") -> None:
    """Print the figures and add `bulk` and `bulk_ratio` to build/bench/serving.json; of embeddings, `bulk_embeddings`."""
    from lambda_torch.names.default import a_release

    if what == "names":
        part = measure(a_release())
    else:
        release = project.BUILD / "releases" / "embeddings"
        if not release.exists():
            subprocess.run(
                [sys.executable, str(EMBEDDINGS / "make_release.py"), "--output", str(release)],
                check=True,
                stdout=sys.stderr,
            )
        part = {"bulk_embeddings": measure(release, EMBEDDED_LINES, EMBEDDINGS)["bulk"]}
    target = project.BUILD / "bench" / "serving.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps({**known, **part}, indent=1) + "\n")
    print(table(next(iter(part.values()))))


if __name__ == "__main__":
    if len(sys.argv) >= 4:
        print(plain_loop(*map(Path, sys.argv[1:])))
    elif sys.argv[1:] in ([], ["names"], ["embeddings"]):
        main(*sys.argv[1:])
    else:
        sys.exit("usage: python -m benchmarks.bulk [names|embeddings]")
