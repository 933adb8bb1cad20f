"""A plugin for pytest, in the process that runs PyTorch's tests: it picks a sample, and writes a line for each verdict.

It is imported where only the tree of torch and pytest can be found, so it needs the standard library and pytest alone.
The environment tells it what to do, since the tests read the command line too:

    UPSTREAM_VERDICTS   the file of verdicts; each line is JSON: a test's name, and its verdict ("began" before it runs);
                        the last line has no name
    UPSTREAM_SAMPLE     how many tests of each file; all of them if it is empty
    UPSTREAM_SEED       which ones
    UPSTREAM_ONLY       a file with the names of the tests to run, a line each; no sample is taken then
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

_FILE = Path(os.environ["UPSTREAM_VERDICTS"])
_verdicts: dict[str, str] = {}


def _write(name: str, verdict: str) -> None:
    with _FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, verdict]) + "\n")


def _done() -> set[str]:
    """Tests that an earlier process of this run has begun: one of them has ended that process."""
    if not _FILE.exists():
        return set()
    return {json.loads(line)[0] for line in _FILE.read_text(encoding="utf-8").splitlines()}


def _sample(names: list[str], size: int) -> Iterator[str]:
    """So many of each file, and the same ones whatever other files there are."""
    for file, group in itertools.groupby(names, lambda name: name.partition("::")[0]):
        listed = list(group)
        yield from random.Random(f"{os.environ['UPSTREAM_SEED']} {file}").sample(listed, min(size, len(listed)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the sample, without what has been run."""
    names = sorted({item.nodeid for item in items})
    if only := os.environ.get("UPSTREAM_ONLY"):
        wanted = set(Path(only).read_text(encoding="utf-8").splitlines())
    elif sample := os.environ.get("UPSTREAM_SAMPLE"):
        wanted = set(_sample(names, int(sample)))
    else:
        wanted = set(names)
    wanted -= _done()
    items[:] = [item for item in items if item.nodeid in wanted]


def pytest_runtest_logstart(nodeid: str) -> None:
    """Leave a trace, in case the test ends the process."""
    _verdicts[nodeid] = "passed"
    _write(nodeid, "began")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Note how a part of the test (setup, the test, teardown) has ended."""
    report = yield
    if report.outcome != "passed":
        error = f": {call.excinfo.typename}" if call.excinfo is not None and report.failed else ""
        kind = "expected failure" if hasattr(report, "wasxfail") else report.outcome
        # The first part that fails says it.
        if _verdicts[item.nodeid] == "passed":
            _verdicts[item.nodeid] = kind + error
    return report


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Write the verdict."""
    _write(nodeid, _verdicts.pop(nodeid))


def pytest_sessionfinish() -> None:
    """Say that no test has ended the process."""
    _write("", "finished")
