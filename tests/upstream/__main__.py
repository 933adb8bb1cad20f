"""Runs PyTorch's own tests on the layer and on stock PyTorch, and compares the verdict of each.

    python -m upstream                        # a sample of each file, which the seed picks
    python -m upstream --all                  # every test (many hours)
    python -m upstream --area jit --tests 50  # a part of PyTorch
    python -m upstream --sources FOLDER       # the folder `test` of a checkout of PyTorch, in the place of Debian's archive
    python -m upstream --document             # run nothing, write the last results into docs/testing.md

A test may fail on both sides: the tests are of another version of PyTorch, and some need packages or devices that are not here.
A difference is run again, alone, on both sides. If the verdicts are equal then, or differ from run to run of stock PyTorch, the
test is unstable. The results go to build/upstream/results.json. An area that is not run keeps its last result there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from lambda_torch.project import BUILD, ROOT
from layer_kit.page_tables import put_rows, rule_of
from layer_kit.stock import link_stock
from upstream.areas import AREAS, LEFT_OUT, Area
from upstream.running import Selection, Verdicts, run_files
from upstream.sources import DEBIAN, SourceError, fetch

FOLDER = BUILD / "upstream"
PAGE = ROOT / "docs" / "testing.md"
HEAD = "| area | torch, tests of | date | files | tests | passed | skipped | fail on both | unstable | differ |"


@dataclass
class AreaResult:
    """What the tests of an area gave.

    Attributes:
        name: of the area.
        torch: torch's version.
        tests_of: the version whose tests were run.
        date: when.
        files: files with verdicts.
        verdicts: how many tests passed, were skipped, failed on both sides, ...
        differences: tests whose verdicts differ, with both.
        unstable: tests whose verdicts differ from run to run.
        without_verdicts: files that give none on either side: they need what this version of torch has no more, say.
    """

    name: str
    torch: str
    tests_of: str
    date: str
    files: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    differences: dict[str, list[str]] = field(default_factory=dict)
    unstable: list[str] = field(default_factory=list)
    without_verdicts: list[str] = field(default_factory=list)


class Trees:
    """The layer and stock PyTorch, and a folder for what is on the way."""

    def __init__(self, layer: Path, stock: Path, tests: Path, work: Path) -> None:
        self._trees, self._tests, self._work, self._runs = (stock, layer), tests, work, 0

    def both(self, files: list[str], selection: Selection) -> tuple[Verdicts, Verdicts]:
        """The verdicts of some files on stock PyTorch and on the layer, at the same time."""
        self._runs += 1
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(run_files, tree, self._tests, files, selection, self._work / f"{self._runs}-{number}")
                for number, tree in enumerate(self._trees)
            ]
            stock, layer = (job.result() for job in jobs)
        return stock, layer


def files_of(area: Area, tests: Path) -> list[str]:
    """The test files of an area that there are, relative to the folder of the tests."""
    left_out = {path for row in LEFT_OUT for path in tests.glob(row.pattern)}
    paths = [path for pattern in area.files for path in sorted(tests.glob(pattern)) if path not in left_out]
    return [path.relative_to(tests).as_posix() for path in paths]


def differing(stock: dict[str, str], layer: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Tests whose verdicts differ, with stock's and the layer's."""
    pairs = {
        name: (stock.get(name, "absent"), layer.get(name, "absent")) for name in sorted(stock.keys() | layer.keys())
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def run_area(area: Area, trees: Trees, files: list[str], selection: Selection, result: AreaResult) -> None:
    """Run an area's files, and put what they give into the result."""
    started = time.monotonic()
    stock, layer = trees.both(files, selection)
    with_verdicts = {name.partition("::")[0] for name in stock.of.keys() | layer.of.keys()}
    result.files = len(with_verdicts)
    result.without_verdicts = [file for file in files if file not in with_verdicts]
    if not with_verdicts:
        sys.stderr.write(f"{stock.said}\n")
    found = differing(stock.of, layer.of)
    for name, pair in found.items():
        if is_unstable(trees, name, selection):
            result.unstable.append(name)
        else:
            result.differences[name] = list(pair)
    result.verdicts = dict(
        Counter(verdict.partition(":")[0] for name, verdict in stock.of.items() if name not in found)
    )
    seconds = time.monotonic() - started
    what = f"{len(stock.of)} tests of {result.files} files, {len(found)} differences at first"
    sys.stderr.write(f"  {area.name}: {what}, {seconds:.0f} s\n")


def is_unstable(trees: Trees, name: str, selection: Selection) -> bool:
    """Whether a difference goes away when the test is run alone, or stock PyTorch differs from itself."""
    alone = selection._replace(names=(name,))
    runs = [trees.both([name.partition("::")[0]], alone) for _ in range(2)]
    verdicts = [(stock.of.get(name, "absent"), layer.of.get(name, "absent")) for stock, layer in runs]
    return any(stock == layer for stock, layer in verdicts) or len({stock for stock, _ in verdicts}) > 1


def row(result: AreaResult) -> str:
    """The result's row in the page."""
    counts = result.verdicts
    passed, skipped = counts.get("passed", 0), counts.get("skipped", 0)
    others = sum(counts.values()) - passed - skipped
    total = sum(counts.values()) + len(result.unstable) + len(result.differences)
    cells = [
        result.name,
        f"{result.torch}, {result.tests_of}",
        result.date,
        result.files,
        total,
        passed,
        skipped,
        others,
    ]
    return "| " + " | ".join(map(str, [*cells, len(result.unstable), len(result.differences)])) + " |"


def document(results: list[AreaResult], page: Path = PAGE) -> None:
    """Put the results into the table of the page.

    Raises:
        SystemExit: nothing was run here.
        PageError: the page has no such table.
    """
    if not results:
        raise SystemExit("No area was run on this machine. Next: make upstream")
    put_rows(page, HEAD, lambda _old: [row(result) for result in results])


def known(file: Path) -> dict[str, AreaResult]:
    """The last results of this machine, by area, in the order of the table."""
    found = {}
    if file.is_file():
        found = {value["name"]: AreaResult(**value) for value in json.loads(file.read_text(encoding="utf-8"))}
    return {area.name: found[area.name] for area in AREAS if area.name in found}


def _report(results: list[AreaResult]) -> Iterator[str]:
    yield from (HEAD, rule_of(HEAD), *map(row, results))
    for result in results:
        for name, (stock, layer) in result.differences.items():
            yield f"{name}: stock {stock}, layer {layer}"
        if result.without_verdicts:
            yield f"{result.name}: no verdicts on either side: {' '.join(result.without_verdicts)}"


def main(argv: list[str] | None = None) -> int:
    """Run the areas; 1 if a verdict differs, or an area has none."""
    parser = argparse.ArgumentParser(prog="python -m upstream", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--area", action="append", choices=[area.name for area in AREAS], help="default: all of them")
    parser.add_argument("--tests", type=int, default=60, help="of each file (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="all tests of each file")
    parser.add_argument("--seed", type=int, default=1, help="which tests (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=300, help="that a test may take (default: %(default)s)")
    parser.add_argument("--layer", type=Path, default=BUILD / "layer" / "python", help="default: build/layer/python")
    parser.add_argument("--sources", type=Path, help="the folder `test` of a checkout of PyTorch")
    parser.add_argument("--sources-version", default=DEBIAN.torch, help="its version (default: %(default)s)")
    parser.add_argument("--document", action="store_true", help="write the last results into docs/testing.md")
    arguments = parser.parse_args(argv)
    file = FOLDER / "results.json"
    if arguments.document:
        document(list(known(file).values()))
        return 0
    if not (arguments.layer / "torch_layer").is_dir():
        parser.error(f"there is no layer in {arguments.layer}. Next: make layer")
    try:
        tests = (arguments.sources or fetch(FOLDER)).resolve()
    except SourceError as error:
        parser.error(str(error))
    selection = Selection(None if arguments.all else arguments.tests, arguments.seed, seconds=arguments.seconds)
    ran = []
    for area in AREAS:
        if arguments.area and area.name not in arguments.area:
            continue
        # Not in memory: some tests save models of gigabytes.
        with tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as folder:
            stock = Path(folder, "stock")
            stock.mkdir()
            trees = Trees(arguments.layer.resolve(), link_stock(stock), tests, Path(folder))
            result = AreaResult(area.name, version("torch"), arguments.sources_version, time.strftime("%Y-%m-%d"))
            run_area(area, trees, files_of(area, tests), selection, result)
        ran.append(result)
        results = known(file) | {area.name: result}
        file.write_text(json.dumps([asdict(each) for each in results.values()], indent=1) + "\n", encoding="utf-8")
    print("\n".join(_report(ran)))
    return int(any(result.differences or not result.files for result in ran))


if __name__ == "__main__":
    sys.exit(main())
