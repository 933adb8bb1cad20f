"""The Runtime API of our own beside AWS's emulator: the same function says the same through both."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from integration.emulator.conftest import PROBE, event, function_of, said
from lambda_torch.emulator import software
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.function import InvokeResult
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.rie_environment import RieInPool
from lambda_torch.emulator.run import LocalRun, Reports, RunOptions, running
from lambda_torch.project import EVENTS

SILENT = Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
SAMPLES = sorted(EVENTS.glob("*.json"))
# What differs from one answer to the next, whoever runs the function.
CHANGING = ("Server-Timing", "X-Request-Id")


@pytest.fixture(scope="module")
def both(release: Path) -> Iterator[tuple[LocalRun, LocalRun]]:
    """The sample model, under both."""
    with ExitStack() as stack:
        options = (
            RunOptions(software.stock(), release, concurrency=1, shipped_emulator=shipped) for shipped in (False, True)
        )
        own, shipped = (stack.enter_context(running(each, b'{"warm": "up"}', SILENT)) for each in options)
        yield own, shipped


def steady(outcome: InvokeResult) -> Any:
    """An answer without what changes from one request to the next."""
    answer = json.loads(outcome.payload)
    for name in CHANGING:
        answer["headers"].pop(name, None)
    answer["body"] = re.sub(r'"since":"[^"]*"', "", answer["body"])  # when the environment got its release
    return outcome.failed, answer


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_event_has_the_same_answer(both: tuple[LocalRun, LocalRun], sample: Path) -> None:
    """Status, headers and body are the same through the local Runtime API and through AWS's emulator."""
    own, shipped = (run.pool.submit(sample.read_bytes()).result() for run in both)
    assert steady(own) == steady(shipped)


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pool, Pool]]:
    """The probe, under both."""
    with ExitStack() as stack:
        processes = stack.enter_context(Processes())
        folder = tmp_path_factory.mktemp("probes")
        function = function_of({"timeout_seconds": 2})
        pools = (
            Pool(lambda number: Environment(function, processes, folder, f"own {number}"), 1),
            Pool(lambda number: RieInPool(function, processes, folder, f"shipped {number}"), 1),
        )
        for pool in pools:
            stack.callback(pool.close)
            pool.start()
        yield pools


@pytest.mark.parametrize(
    "order",
    [
        {"do": "raise"},
        {"do": "sleep", "seconds": 30},
        {"do": "exit"},
        {"do": "import", "module": "no_such_module"},
        {"a": "é😀", "nested": [1, None, {"b": 0.1}]},
        {"text": "x" * 6_000_000},
    ],
    ids=lambda order: str(order.get("do", next(iter(order)))),
)
def test_failures_and_limits_are_told_in_the_same_words(probes: tuple[Pool, Pool], order: dict[str, Any]) -> None:
    """Exceptions, time-outs, ended processes and large payloads give the same payload, but for identifiers."""
    with ThreadPoolExecutor(2) as threads:
        own, shipped = threads.map(lambda pool: pool.submit(event(**order)).result(), probes)
    assert own.failed == shipped.failed
    assert named(own) == named(shipped)


def named(outcome: InvokeResult) -> Any:
    """An answer without the numbers of requests and processes."""
    answer = said(outcome)
    answer.pop("requestId", None)
    answer.pop("pid", None)
    message = answer.get("errorMessage", "")
    if message.startswith("RequestId: "):
        answer["errorMessage"] = message.partition(" Error: ")[2]
    return answer


def test_the_process_sees_the_same_variables(probes: tuple[Pool, Pool]) -> None:
    """The variables have the same names and, but for addresses and folders of a run, the same values."""
    own, shipped = (said(pool.submit(event(do="describe")).result()) for pool in probes)
    # The emulator's own: an empty token, and a metadata service that Lambda has and no runtime needs.
    emulators = {"AWS_SESSION_TOKEN", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN"}
    assert shipped["variables"].keys() - own["variables"].keys() <= emulators
    # Lambda gives each event a trace id, and the emulator gives none.
    assert own["variables"].pop("_X_AMZN_TRACE_ID").startswith("Root=1-")
    assert own["variables"].keys() <= shipped["variables"].keys()
    of_a_run = {"HOME", "TMPDIR", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
    for name in own["variables"].keys() - of_a_run:
        values = [each["variables"][name].replace(each["variables"]["TMPDIR"], "TMPDIR") for each in (own, shipped)]
        assert values[0] == values[1], name
    for member in ("cwd", "path", "memory", "name", "client"):
        assert own[member] == shipped[member]
    assert own["cwd"] == str(PROBE)
