"""Cold code under fire: many threads at once, forks in the middle, other handlers of SIGSEGV."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import clean

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAM = Path(__file__).parent / "programs" / "hammer.py"
# The cells of tests/runtimes take fewer: the pager is C, and the same on every Python.
RUNS = int(os.environ.get("HAMMER_RUNS", "100"))
THREADS = 8


def _hammer(tree: Path, file: Path, runs: int, *options: str) -> list[dict[str, Any]]:
    process = clean.run(tree, str(PROGRAM), str(file), str(runs), *options, timeout=1200)
    assert process.returncode == 0, process.stderr
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


@pytest.fixture(scope="module")
def hammered(layer: Layer, stock: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """One run on stock torch, many on the layer, and as many on the layer with forks in the middle under `faulthandler`."""
    folder = tmp_path_factory.mktemp("hammer")
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(_hammer, layer.tree, folder / "plain", RUNS)
        forking = pool.submit(_hammer, layer.tree, folder / "forking", RUNS, "fork", "faulthandler")
        stock_runs = pool.submit(_hammer, stock, folder / "stock", 1, "fork")
        return {"stock": stock_runs.result(), "plain": plain.result(), "forking": forking.result()}


@pytest.mark.parametrize("kind", ["plain", "forking"])
def test_eight_threads_agree_on_every_result(hammered: dict[str, list[dict[str, Any]]], kind: str) -> None:
    """In each of many processes, 8 threads that touch the same cold code at once all get the bytes that stock torch gives."""
    (expected,) = hammered["stock"][0]["digests"]
    assert [run["digests"] for run in hammered[kind]] == [{expected: THREADS}] * RUNS


def test_a_process_forked_in_the_middle_computes_the_same(hammered: dict[str, list[dict[str, Any]]]) -> None:
    """A process that is forked while the threads bring cold code in brings in more of it, and gets the stock bytes."""
    expected, _ = hammered["stock"][0]["forked"]
    assert len(expected) == 24
    assert [run["forked"][0] for run in hammered["forking"]] == [expected] * RUNS
    faults = [run["forked"][1] for run in hammered["forking"]]
    assert sum(faults) >= RUNS, "little was cold in the forked processes"


@pytest.mark.parametrize("kind", ["plain", "forking"])
def test_the_code_was_cold(hammered: dict[str, list[dict[str, Any]]], kind: str) -> None:
    """Every one of these runs brought blocks in by faults; else it would not have tried anything."""
    assert min(run["counters"]["faults"] for run in hammered[kind]) >= 10


COLD = (
    "print(float(torch.linalg.svdvals(torch.arange(36.0).reshape(6, 6)).sum().round()), "
    "float(torch.fft.rfft(torch.ones(8)).real[0]))"
)
COLD_RESULT = ["127.0", "8.0"]
CRASH = "import ctypes; ctypes.string_at(8)"
ORDERS = {
    "before torch": f"import faulthandler; faulthandler.enable(); import torch; {COLD}",
    "after torch": f"import torch, faulthandler; faulthandler.enable(); {COLD}",
    "on and off again": f"import torch, faulthandler; faulthandler.enable(); faulthandler.disable(); {COLD}",
    "a handler in Python": f"import torch, signal; signal.signal(signal.SIGSEGV, lambda *_: None); {COLD}",
    "the default action": f"import torch, signal; signal.signal(signal.SIGSEGV, signal.SIG_DFL); {COLD}",
}


@pytest.mark.parametrize("order", ORDERS)
def test_other_handlers_do_not_displace_the_pager(layer: Layer, order: str) -> None:
    """Cold code comes back whatever else has asked for SIGSEGV, before torch was imported or after."""
    process = clean.run(layer.tree, "-c", ORDERS[order])
    assert (process.returncode, process.stdout.split()) == (0, COLD_RESULT), process.stderr


@pytest.mark.parametrize("order", ["before torch", "after torch"])
def test_a_true_crash_is_still_reported(layer: Layer, order: str) -> None:
    """A wild pointer ends the process by SIGSEGV, and `faulthandler` prints its traceback, also after pages were brought in."""
    process = clean.run(layer.tree, "-c", f"{ORDERS[order]}; {CRASH}")
    assert process.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in process.stderr
    assert "string_at" in process.stderr


def test_a_true_crash_without_faulthandler_ends_the_process(layer: Layer) -> None:
    """A wild pointer ends the process by SIGSEGV as it does without the pager: no loop, no other exit code."""
    process = clean.run(layer.tree, "-c", f"import torch; {COLD}; {CRASH}", timeout=60)
    assert process.returncode == -signal.SIGSEGV


def test_eager_mode_leaves_nothing_to_fault_on(layer: Layer) -> None:
    """With TORCH_LAYER_PAGER=eager everything is brought in at load: cold code then raises no fault."""
    program = f"import torch; {COLD}; from torch_layer import pager; print(pager.stats().faults, pager.stats().blocks)"
    process = clean.run(layer.tree, "-c", program, extra={"TORCH_LAYER_PAGER": "eager"})
    assert process.returncode == 0, process.stderr
    *results, faults, blocks = process.stdout.split()
    assert (results, faults) == (COLD_RESULT, "0")
    assert int(blocks) > 100
