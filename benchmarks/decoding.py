"""Compares two ways to write names with the same weights: the 2018 post's way and the function's way.

The post's way writes one letter of one name at a time. Both ways write the same names. Both run in this process on one
thread, since a second thread does not help so small a network. They take turns, so a machine that slows down slows
both. The table has medians in milliseconds, and the median of the ratios of the rounds.
"""

import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.tutorial import Tutorial
from lambda_torch import project
from model import Model, Request
from model.config import WEIGHTS_FILE
from model.network import RNN

START_LETTERS = (1, 3, 26, 64)
# Fewer rounds where a round takes longer, so that each row takes some seconds.
ROUNDS = {1: 1000, 3: 500, 26: 100, 64: 50}
WARM_UP = 10


def milliseconds(call: Callable[[], object]) -> float:
    """The wall time of one call, in milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def tutorial_of(folder: Path, model: Model) -> Tutorial:
    """The tutorial's code around the same weights."""
    config = model.config
    rnn = RNN(len(config.categories), len(config.letters) + 1, config.architecture.hidden_size)
    rnn.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return Tutorial(rnn, config.categories, config.letters, config.max_length)


def measure(model: Model, tutorial: Tutorial, count: int) -> dict[str, float | int]:
    """Measure one row of the table. Raises SystemExit if the two ways write different names."""
    category = "Russian" if "Russian" in model.config.categories else model.config.categories[0]
    capitals_first = sorted(filter(str.isalpha, model.config.letters), key=str.islower)
    letters = "".join(itertools.islice(itertools.cycle(capitals_first), count))
    request = Request(category=category, start_letters=letters)
    ours, theirs = model.predict([request])[0].root, tutorial.samples(category, letters)
    if ours != theirs:
        raise SystemExit(f"The two ways write different names for {letters!r}: {ours} and {theirs}")

    pairs = [
        (milliseconds(lambda: tutorial.samples(category, letters)), milliseconds(lambda: model.predict([request])))
        for _ in range(WARM_UP + ROUNDS[count])
    ][WARM_UP:]
    return {
        "start_letters": count,
        "post_ms": round(statistics.median(post for post, _ in pairs), 3),
        "ours_ms": round(statistics.median(own for _, own in pairs), 3),
        "ratio": round(statistics.median(post / own for post, own in pairs), 1),
    }


def main() -> None:
    """Print the table and write build/bench/decoding.json."""
    from lambda_torch.names.default import a_release

    torch.set_num_threads(1)
    folder = a_release()
    model = Model.load(folder)
    tutorial = tutorial_of(folder, model)
    rows = [measure(model, tutorial, count) for count in START_LETTERS]
    target = project.BUILD / "bench" / "decoding.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    result = {"torch": torch.__version__, "python": platform.python_version(), "rounds": ROUNDS, "rows": rows}
    target.write_text(json.dumps(result, indent=1) + "\n")
    print("| start letters | the post's way, ms | ours, ms | ratio |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['start_letters']} | {row['post_ms']} | {row['ours_ms']} | {row['ratio']} x |")
    print(f"written to {target.relative_to(project.ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
