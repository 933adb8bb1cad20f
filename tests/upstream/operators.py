"""Runs PyTorch's operator database in five types, with gradients, on the layer and on stock PyTorch, and compares every byte.

    python -m upstream.operators              # ten samples of each operator and type
    python -m upstream.operators --document   # run nothing, write the last result into docs/testing.md

The result goes to build/upstream/operators.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lambda_torch.project import BUILD, ROOT
from layer_kit.operators import DTYPES, SAMPLES, UNSTABLE, Digests, digests
from layer_kit.page_tables import put_rows, rule_of
from layer_kit.stock import link_stock

RESULT = BUILD / "upstream" / "operators.json"
PAGE = ROOT / "docs" / "testing.md"
HEAD = "| type | torch | date | operators | samples | equal to the byte | only shapes compared | different |"
_SHARES = 16  # processes, one after another, so that one that ends early is named
_SECONDS = 3600  # that a share may take


def counted(found: Digests) -> dict[str, dict[str, Any]]:
    """By type: the operators, and how many samples there were, were equal, and were different."""
    compared, different = set(found.compared()), found.different()
    rows: dict[str, dict[str, Any]] = {}
    for dtype in DTYPES:
        names = [name for name in found.expected if name.split("/")[1] == dtype]
        bad = Counter(name.split("/")[0] for name in different if name.split("/")[1] == dtype)
        rows[dtype] = {
            "operators": sorted({name.split("/")[0] for name in names}),
            "samples": len(names),
            "equal": sum(name in compared and name not in different for name in names),
            "shapes": sum(name not in compared for name in names),
            "different": dict(bad),
        }
    return rows


def merged(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sums of two shares."""
    if not one:
        return other
    return {
        dtype: {
            key: {**value, **other[dtype][key]} if isinstance(value, dict) else value + other[dtype][key]
            for key, value in row.items()
        }
        for dtype, row in one.items()
    }


def table(result: dict[str, Any]) -> list[str]:
    """The result as a table of the page."""
    lines = [HEAD, rule_of(HEAD)]
    for dtype, row in result["types"].items():
        counts = [len(row["operators"]), row["samples"], row["equal"], row["shapes"], sum(row["different"].values())]
        lines.append("| " + " | ".join(map(str, [dtype, result["torch"], result["date"], *counts])) + " |")
    return lines


def document(result: dict[str, Any], page: Path = PAGE) -> None:
    """Put the table into the page. Raises PageError if the page has no such table."""
    put_rows(page, HEAD, lambda _old: table(result)[2:])


def main(argv: list[str] | None = None) -> int:
    """Run the database; 1 if a sample differs."""
    parser = argparse.ArgumentParser(
        prog="python -m upstream.operators", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--layer", type=Path, default=BUILD / "layer" / "python", help="default: build/layer/python")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of an operator and type (default: %(default)s)")
    parser.add_argument("--document", action="store_true", help="write the last result into docs/testing.md")
    arguments = parser.parse_args(argv)
    if arguments.document:
        if not RESULT.is_file():
            parser.error("nothing was run on this machine. Next: make operators")
        document(json.loads(RESULT.read_text(encoding="utf-8")))
        return 0
    if not (arguments.layer / "torch_layer").is_dir():
        parser.error(f"there is no layer in {arguments.layer}. Next: make layer")
    types: dict[str, dict[str, Any]] = {}
    options = ["--dtypes", *DTYPES, "--samples", str(arguments.samples)]
    with tempfile.TemporaryDirectory(prefix="operators-") as name:
        folder = Path(name)
        (folder / "stock").mkdir()
        stock = link_stock(folder / "stock")
        for share in range(_SHARES):
            started = time.monotonic()
            found = digests(
                stock, arguments.layer.resolve(), folder, *options, "--share", f"{share}/{_SHARES}", timeout=_SECONDS
            )
            types = merged(types, counted(found))
            for sample, (one, other) in found.different().items():
                print(f"{sample}: stock {one}, layer {other}")
            seconds = time.monotonic() - started
            sys.stderr.write(f"  share {share + 1} of {_SHARES}: {len(found.expected)} samples, {seconds:.0f} s\n")
    result = {"torch": version("torch"), "date": time.strftime("%Y-%m-%d"), "types": types}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(result)))
    print("Only shapes are compared of: " + "; ".join(f"{row.prefix} ({row.reason})" for row in UNSTABLE))
    return int(any(row["different"] for row in types.values()))


if __name__ == "__main__":
    sys.exit(main())
