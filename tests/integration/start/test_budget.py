"""What the function's start may import and use beside torch. Seconds are for benchmarks; these decide them."""

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from integration.start.conftest import StartFresh

# Beside what `import torch` and Lambda's runtime client bring.
MODULES = 150
# Without the pages of mapped files: how many of those the kernel maps around a fault depends on what other processes
# have read.
PEAK_BYTES = 15_000_000

# Each costs a start some 10 ms of CPU or more, and nothing in it needs them: see `python -m benchmarks.imports`.
ABSENT = (
    "boto3",
    "botocore",
    "urllib3",
    "requests",
    "aws_lambda_powertools",
    "jmespath",
    "asyncio",
    "snapshot_restore_py",
)

# `http.client` and `logging` are the runtime client's own.
BARE = """
import http.client, json, logging, sys
import torch
with open("/proc/self/status") as status:
    sizes = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in status) if " kB" in value}
print(json.dumps([sorted(sys.modules), sizes["VmHWM"] - sizes["RssFile"]]))
"""


def bare() -> tuple[set[str], int]:
    """The modules and the peak memory in bytes of a process that imports torch and does nothing."""
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BARE], env=environment, capture_output=True, text=True, check=True)
    modules, peak = json.loads(done.stdout)
    return set(modules), peak


def test_the_start_imports_little_beside_torch(start_fresh: "StartFresh") -> None:
    """Until the first event the function imports a bounded number of modules of its own, and none of the known heavy ones."""
    modules, _ = bare()
    own = sorted(set(start_fresh().ready) - modules)
    assert [name for name in own if name.partition(".")[0] in ABSENT] == []
    assert len(own) <= MODULES, own


def test_the_start_takes_little_memory_beside_torch(start_fresh: "StartFresh") -> None:
    """The first answer of the sample function peaks at little more than `import torch` does."""
    _, before = bare()
    assert start_fresh().peak - before <= PEAK_BYTES


def test_the_release_is_fetched_while_torch_is_imported(start_fresh: "StartFresh") -> None:
    """The read of the channel begins before the import of torch, which does not wait for it."""
    phases = start_fresh().lines[-1]["start"]["phases"]
    assert phases["pointer"]["at"] <= phases["torch"]["at"] + 1
    assert phases["load"]["at"] >= phases["torch"]["at"] + phases["torch"]["ms"]


def test_threads_are_set_before_torch_reads_them(start_fresh: "StartFresh") -> None:
    """However the start is ordered, torch takes its threads from the memory size."""
    small = start_fresh(AWS_LAMBDA_FUNCTION_MEMORY_SIZE="1769")
    large = start_fresh(AWS_LAMBDA_FUNCTION_MEMORY_SIZE="3538")
    assert (small.threads, large.threads) == (1, 2)


def test_where_plain_gets_are_not_enough_boto3_reads(start_fresh: "StartFresh") -> None:
    """With a certificate of one's own, say, the same start goes by way of boto3, and says what that cost."""
    started = start_fresh(AWS_CA_BUNDLE="/etc/ssl/certs/ca-certificates.crt")
    assert started.answer["statusCode"] == 200
    assert "boto3" in started.ready
    assert started.lines[-1]["start"]["phases"]["boto3"]["ms"] > 0


def test_a_plain_request_loads_nothing_for_answers_in_pieces(start_fresh: "StartFresh") -> None:
    """Neither the start nor a request that asks for no pieces imports what only those need."""
    only = {
        "serving.runtime",
        *(f"serving.http.{name}" for name in ("streaming", "framing", "delivery", "pieces_schema")),
    }
    started = start_fresh()
    assert started.answer["statusCode"] == 200
    assert not only & set(started.answered)
    assert "serving.telemetry.pieces" not in started.answered
    # With streaming on, the start loads what sends streams, and no more than that.
    streams = start_fresh(RESPONSE_STREAMING="api", AWS_LAMBDA_RUNTIME_API="127.0.0.1:9")
    assert set(streams.answered) & (only - {"serving.runtime"}) == set()
    assert "serving.runtime.hook" in streams.answered
