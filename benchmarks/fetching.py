"""Compares two ways to fetch 1 GB from an S3 on this machine: the function's own and boto3's `download_file`.

It also measures how much memory it takes to load the file afterwards. Each fetch is a process of its own. The two ways
take turns, and the result is the median of the ratios of the rounds. Our way hashes every byte as it arrives; boto3's
way checks nothing. Memory is the peak of the process (VmHWM) minus its memory before the fetch.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.loopback import serving

SIZE = 1024**3
ROUNDS = 6
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def peak_bytes(what: str = "VmHWM") -> int:
    """This process's peak resident memory in bytes, or another line of /proc/self/status."""
    (kilobytes,) = re.findall(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def function_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Without what would make the function read S3 by boto3: a proxy or certificates of this machine."""
    from lambda_torch import project

    project.use_function_code()
    from serving.settings import SPECIAL

    return {name: value for name, value in variables.items() if name not in SPECIAL}


def child(way: str, target: str) -> None:
    """Fetch the file (`ours`, `boto3`), or fetch and load it (`load`). Prints seconds and memory as JSON."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    import boto3

    from serving.releases import download
    from serving.settings import AwsEnvironment
    from serving.storage import signed
    from serving.storage.deadline import Deadline

    client = boto3.client("s3")
    objects = signed.open_objects(AwsEnvironment.from_environment())
    from safetensors.torch import load_file  # torch is in memory before the measurement, as in the function

    client.head_object(Bucket="models", Key="weights.safetensors")
    before, started, cpu = peak_bytes("VmRSS"), time.perf_counter(), time.process_time()
    if way == "boto3":
        client.download_file("models", "weights.safetensors", target)
    else:
        size, deadline = int(os.environ["OBJECT_BYTES"]), Deadline(600)
        download.fetch(objects, "models", "weights.safetensors", size, Path(target), deadline)
    if way == "load":
        # Touch every page of every tensor, as the first prediction does.
        tensors = load_file(target)
        assert all(float(tensor.sum()) == 0 for tensor in tensors.values())
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "peak": peak_bytes() - before, "whole": peak_bytes()}))


def _run(way: str, url: str, target: Path, size: int) -> dict[str, float]:
    environment = {
        **function_environment(os.environ),
        **CREDENTIALS,
        "AWS_ENDPOINT_URL_S3": url,
        "OBJECT_BYTES": str(size),
    }
    command = [sys.executable, "-m", "benchmarks.fetching", way, str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert target.stat().st_size == size
    target.unlink()
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure() -> dict[str, Any]:
    """Measure both ways and one load.

    `speed_ratio` and `cpu_ratio` are boto3's figure divided by ours, `peak_ratio` is ours divided by boto3's.
    `peak_of_size` and `load_peak_of_size` are memory divided by the size of the file.
    """
    import torch
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        rows = SIZE // 4 // 8 // 4096
        save_file({f"layer{number}": torch.zeros(rows, 4096) for number in range(8)}, source / "weights.safetensors")
        size, target = (source / "weights.safetensors").stat().st_size, Path(scratch) / "target"
        with serving("files", str(source)) as url:
            rounds = []
            for number in range(ROUNDS):
                # In turns, because the first one meets a disk that still writes back the file before.
                ways = ("ours", "boto3") if number % 2 else ("boto3", "ours")
                rounds.append({way: _run(way, url, target, size) for way in ways})
            load = _run("load", url, target, size)

    def ratio(over: str, under: str, figure: str) -> float:
        return statistics.median(each[over][figure] / each[under][figure] for each in rounds)

    def median(way: str, figure: str) -> float:
        return statistics.median(each[way][figure] for each in rounds)

    return {
        "bytes": size,
        "server": "benchmarks.loopback files (ranges by sendfile; moto keeps objects in Python and would be the bottleneck)",
        "ours_s": round(median("ours", "seconds"), 3),
        "boto3_s": round(median("boto3", "seconds"), 3),
        "speed_ratio": round(ratio("boto3", "ours", "seconds"), 2),
        "cpu_ratio": round(ratio("boto3", "ours", "cpu"), 2),
        "ours_peak_mb": round(median("ours", "peak") / 1e6, 1),
        "boto3_peak_mb": round(median("boto3", "peak") / 1e6, 1),
        "peak_ratio": round(ratio("ours", "boto3", "peak"), 3),
        "peak_of_size": round(median("ours", "peak") / size, 4),
        "load_peak_of_size": round(load["peak"] / size, 3),
        "load_whole_process_of_size": round(load["whole"] / size, 3),
    }


if __name__ == "__main__":
    child(*sys.argv[1:])
