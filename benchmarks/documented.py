"""Puts the last results of benchmarks into the documents: `make bench-tables`.

A page has `<!-- output of NAME -->` and `<!-- end of output -->` around each table, as docs/cost.md has. A result that is not
there leaves its table as it is.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.coldstart import results
from benchmarks.coldstart.results import Setting
from benchmarks.load import joined
from lambda_torch import project

RESULTS = project.BUILD / "bench"
LANGUAGE_MODELS = project.ROOT / "docs" / "language-models.md"
BENCHMARKS = project.ROOT / "benchmarks" / "README.md"
# Title, figure, ratio, what the figure is in, and the aim. A ratio of the processor's seconds has no aim of its own.
CHAT_ROWS = (
    ("prompt tokens per second", "prompt_tokens_per_second", "prefill_ratio", "", "1.2 or more"),
    ("new tokens per second", "new_tokens_per_second", "decode_ratio", "", "0.8 or more"),
    ("first token of a running function", "first_token_ms", "first_token_ratio", " ms", ""),
    (
        "first token, from the start of the process",
        "cold_start_to_first_token_ms",
        "cold_ratio",
        " ms",
        "1.0 or less",
    ),
    ("a new token, processor's time", "cpu_ms_per_new_token", "decode_cpu_ratio", " ms", ""),
    ("the start, processor's time", "cold_start_cpu_ms", "cold_cpu_ratio", " ms", ""),
)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between a table's two marks.

    Raises:
        ValueError: the page has no such table, or several.
    """
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- output of {re.escape(name)} -->\n).*?(\n<!-- end of output -->)", re.DOTALL)
    after, times = pattern.subn(lambda found: f"{found[1]}\n{text}\n{found[2]}", before)
    if times != 1:
        raise ValueError(f"{page} has {times} tables between the marks of {name}, and not one")
    page.write_text(after, encoding="utf-8")


def chat(result: dict[str, Any]) -> str:
    """A table for each memory size, and what it was measured on."""
    parts, loads = [], []
    for memory, found in result["settings"].items():
        threads = "one thread" if found["threads"] == 1 else f"{found['threads']} threads"
        lines = [
            f"| at {int(memory):,} MB, {threads} | this example | llama.cpp | ratio | aim |",
            "|---|---|---|---|---|",
        ]
        for title, figure, ratio, unit, aim in CHAT_ROWS:
            ours, theirs = (f"{found[each][figure]:,}{unit}" for each in ("torch", "llama.cpp"))
            lines.append(f"| {title} | {ours} | {theirs} | {found['ratios'][ratio]:.2f} | {aim} |")
        parts.append("\n".join(lines))
        waiting = ", and threads that wait do not spin" if found["wait"] == "passive" else ""
        loads.append(f"{found['load']:.0f} at {int(memory):,} MB ({found['rounds']} rounds{waiting})")
    machine = result["machine"]
    base = "the layer" if machine["layer"] else "stock PyTorch"
    parts.append(
        f"Measured with PyTorch {machine['torch']} from {base} on {machine['cores']} cores with {machine['capability']}.\n"
        f"The machine's load was {' and '.join(loads)}."
    )
    return "\n\n".join(parts)


def soak(result: dict[str, Any]) -> str:
    """What the soak of clients that go away left behind."""
    found = result["soak"]
    unread = 1 - found["ends"]["never"] / found["streams"]
    left = ", ".join(str(found["left"][name]) for name in ("processes", "threads", "files"))
    rows = (
        (f"streams in {found['seconds']} s, of which {unread:.0%} were not read to their end", f"{found['streams']:,}"),
        ("errors", found["errors"]),
        ("processes, threads, open files (sockets too) more than before", left),
        ("open generators", found["open_generators"]),
        ("resident memory, after / before", f"{found['memory_ratio']:.3f} x"),
    )
    return "\n".join(["| the soak | |", "|---|---|", *(f"| {title} | {value} |" for title, value in rows)])


def coldstart_of_examples(result: dict[str, Any]) -> str:
    """The tables of the models beside the sample function, each with its ratios."""
    parts = []
    for each in result["models"].values():
        parts += [results.table(each["candidates"], Setting.named(name)) for name in _settings(each)]
        parts.append(results.goals_table(each["goals"], each["title"]))
    return "\n\n".join(parts)


def coldstart_of_names(result: dict[str, Any]) -> str:
    """The tables of the sample function, one for each setting, and its ratios."""
    tables = [results.table(result["candidates"], Setting.named(name)) for name in _settings(result)]
    return "\n\n".join([*tables, results.goals_table(result["goals"])])


# What was done about a row, by the title of its goal. The links are those of benchmarks/README.md.
DESIGN = "../layers/torch/DESIGN.md"
TRIED = {
    "against stock with valid bytecode, CPU seconds": f"[registrations that wait, a heap, binding]({DESIGN}#loading-quickly)",
    "against ONNX Runtime, same network and answer, CPU seconds": "the same; to load PyTorch's libraries alone takes "
    "longer than all of ONNX Runtime's start",
    "peak memory against stock": f"[giving back what only loading needs]({DESIGN}#loading-quickly)",
    "bytes read against stock, page cache dropped": f"[the order in the file]({DESIGN}#loading-quickly)",
    "against ONNX Runtime, same network and tokenizer, CPU seconds": "no tensor on the meta device",
}
LAYER_AIM_MB = 170


def reach(result: dict[str, Any]) -> str:
    """How far each aim is: measured, by how much it falls short, and what was tried."""
    lines = ["| first answer | aim | measured | short by | what was tried |", "|---|--:|--:|--:|---|"]
    for model, report in {"names": result, **result["models"]}.items():
        for goal in report["goals"]:
            if goal["title"] in TRIED and goal["reach"] is not None:
                short = "" if goal["reached"] else f"{goal['ratio'] - goal['reach']:.2f}"
                cells = (
                    f"{model}, {goal['title']}",
                    goal["reach"],
                    f"{goal['ratio']:.2f}",
                    short,
                    TRIED[goal["title"]],
                )
                lines.append(f"| {' | '.join(map(str, cells))} |")
    size = result["layer_bytes"] / 1e6
    tried = f"[sizes of each idea]({DESIGN}#smaller-still)"
    lines.append(f"| the layer unzipped, MB | {LAYER_AIM_MB} | {size:.1f} | {size - LAYER_AIM_MB:.1f} | {tried} |")
    return "\n".join(lines)


def _settings(report: dict[str, Any]) -> list[str]:
    return list(report["candidates"]["ours"]["settings"])


TABLES: tuple[tuple[str, str, Path, Callable[[dict[str, Any]], str]], ...] = (
    ("chat.json", "make bench-chat", LANGUAGE_MODELS, chat),
    ("local.json", "make soak-streams", BENCHMARKS, soak),
    ("joined.json", "make bench-joined", BENCHMARKS, joined.table),
    ("coldstart.json", "make bench-coldstart", BENCHMARKS, coldstart_of_names),
    ("coldstart.json", "make bench-coldstart: examples", BENCHMARKS, coldstart_of_examples),
    ("coldstart.json", "make bench-coldstart: reach", BENCHMARKS, reach),
)


def main(results: Path = RESULTS) -> None:
    """Write what was measured on this machine into the documents."""
    for file, name, page, table in TABLES:
        path, command = results / file, name.partition(":")[0]
        if not path.exists():
            sys.stderr.write(f"{path} is not there, so the table of {name} stays. Next: {command}\n")
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        try:
            text = table(result)
        except KeyError:
            sys.stderr.write(f"{path} has no result of {name}, so its table stays. Next: {name}\n")
            continue
        put(page, name, text)
        sys.stderr.write(f"{page}: the table of {name}\n")


if __name__ == "__main__":
    main()
