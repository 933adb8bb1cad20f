"""Compares the layer's size and speed with its peers': `make bench-layer`, or `python -m benchmarks.layer`.

Every candidate starts a new process that runs `import torch` and the forward pass of one LSTM. The candidates take
turns, the page cache is warm, and the table has medians. A second round drops the page cache before each start, and
counts the bytes that the process reads from storage. Sizes count every file, as Lambda does. Zip bytes are those of the
archive that SAM would upload.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.layer.measure import Start, drop_page_cache, start
from benchmarks.layer.peers import PEERS, Peer, prepare, zip_of

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
LIMIT_BYTES = 262_144_000
OURS = Peer(
    "this layer",
    lambda _installed, _tree: None,
    "",
    "cold code is compressed, and returns at the first touch",
)
Starts = dict[str, list[Start]]  # by candidate name


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _site_packages() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("torch is not installed here. Next: make setup")
    return Path(spec.origin).parents[1]


def _size(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def _measure(candidates: list[tuple[Peer, Path]], runs: int, cold_runs: int) -> tuple[Starts, Starts, str]:
    """The starts of each candidate, warm and cold, and the reason if there are no cold ones."""
    warm: Starts = {peer.name: [] for peer, _ in candidates}
    cold: Starts = {peer.name: [] for peer, _ in candidates}
    for number in range(runs + 1):
        for peer, tree in candidates:
            _say(
                f"  start {number} of {runs}: {peer.name}"
                + (" (fills the page cache, not counted)" if number == 0 else "")
            )
            result = start(tree, peer.prelude)
            if number:
                warm[peer.name].append(result)
    reason = drop_page_cache()
    if reason:
        return warm, cold, reason
    for number in range(cold_runs):
        for peer, tree in candidates:
            _say(f"  start {number + 1} of {cold_runs}, page cache dropped: {peer.name}")
            drop_page_cache()
            cold[peer.name].append(start(tree, peer.prelude))
    return warm, cold, ""


def _row(peer: Peer, tree: Path, archive: Path, warm: list[Start], cold: list[Start]) -> dict[str, object]:
    """A candidate's figures, sizes in bytes and times in seconds."""
    return {
        "name": peer.name,
        "what": peer.what,
        "unzipped_bytes": _size(tree),
        "zip_bytes": archive.stat().st_size,
        "cpu_seconds": median(s.cpu_seconds for s in warm),
        "cpu_seconds_all": [round(s.cpu_seconds, 3) for s in warm],
        "wall_seconds": median(s.wall_seconds for s in warm),
        "peak_bytes": median(s.peak_bytes for s in warm),
        "cold_read_bytes": median(s.read_bytes for s in cold) if cold else None,
        "cold_wall_seconds": median(s.wall_seconds for s in cold) if cold else None,
    }


def table(rows: list[dict[str, object]], reason: str) -> str:
    """The result as Markdown, with ratios to the first row."""
    lines = [
        "| | unzipped, MB | zip, MB | CPU, s | ratio | wall, s | peak memory, MB | read from storage, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = float(str(rows[0]["cpu_seconds"]))
    for row in rows:
        unzipped, archive, cpu, wall, peak = (
            float(str(row[key])) for key in ("unzipped_bytes", "zip_bytes", "cpu_seconds", "wall_seconds", "peak_bytes")
        )
        read = "" if row["cold_read_bytes"] is None else f"{float(str(row['cold_read_bytes'])) / 1e6:.0f}"
        over = " (too large)" if unzipped > LIMIT_BYTES else ""
        lines.append(
            f"| {row['name']} | {unzipped / 1e6:.1f}{over} | {archive / 1e6:.1f} | {cpu:.2f} | {cpu / base:.2f} | {wall:.2f} "
            f"| {peak / 1e6:.0f} | {read} |"
        )
    if reason:
        lines.append(f"\nThere are no figures for reading from storage: {reason}.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Make the peers, measure all candidates, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer", description=__doc__)
    parser.add_argument("--layer", type=Path, default=BUILD / "layer", help="the layer's folder (default: build/layer)")
    parser.add_argument("--zip", type=Path, default=BUILD / "layer.zip", help="its archive (default: build/layer.zip)")
    parser.add_argument("--runs", type=int, default=9, help="counted starts for each, page cache warm (default: 9)")
    parser.add_argument("--cold-runs", type=int, default=3, help="starts for each, page cache dropped (default: 3)")
    parser.add_argument(
        "--only", action="append", help="only peers with this text in the name, and the first (repeatable)"
    )
    parser.add_argument("--output", type=Path, default=BUILD / "bench" / "layer.json", help="JSON file")
    arguments = parser.parse_args(argv)
    tree = arguments.layer / "python"
    if not (tree / "torch").is_dir() or not arguments.zip.is_file():
        raise SystemExit(f"there is no layer in {arguments.layer}, or no {arguments.zip}. Next: make layer")

    candidates = []
    for peer in PEERS:
        if not arguments.only or peer is PEERS[0] or any(text in peer.name for text in arguments.only):
            _say(f"  prepare: {peer.name}")
            candidates.append((peer, prepare(peer, _site_packages(), BUILD / "bench" / "layer")))
    warm, cold, reason = _measure([*candidates, (OURS, tree)], arguments.runs, arguments.cold_runs)
    places = [(peer, folder, zip_of(folder)) for peer, folder in candidates] + [(OURS, arguments.layer, arguments.zip)]
    rows = [_row(peer, folder, archive, warm[peer.name], cold[peer.name]) for peer, folder, archive in places]
    machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": version("torch")}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({**machine, "runs": arguments.runs, "storage": reason, "candidates": rows}, indent=1) + "\n"
    )
    print(table(rows, reason))
    _say(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
