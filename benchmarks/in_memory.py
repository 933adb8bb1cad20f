"""Compares two ways of the function to bring a large release from S3 into service: by way of the disk, and straight into memory.

Each run is a process of its own: it fetches the release, verifies it, loads it with safetensors and touches every page, as
the first prediction does. The ways take turns, and a ratio is the median of the rounds. Memory is the peak of the process
(VmHWM) minus its memory before; every page of a file in memory is mapped in the end, so nothing is left out.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.fetching import CREDENTIALS, function_environment, peak_bytes
from benchmarks.loopback import serving

SIZES_GB = (1, 2, 4)
ROUNDS = 3
GIGABYTE = 1024**3
TENSORS_A_GB = 8
WAYS = ("disk", "memory")


def child(way: str, folder: str) -> None:
    """Bring the release into service in one way, and print seconds, CPU seconds and memory as JSON."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    from safetensors.torch import load_file  # torch is in memory before the measurement, as in the function

    from serving.releases.format import Manifest, parse
    from serving.releases.room import Room
    from serving.releases.store import ReleaseStore
    from serving.settings import AwsEnvironment
    from serving.storage import signed

    manifest = parse(Manifest, Path(folder, "manifest.json").read_bytes())
    objects = signed.open_objects(AwsEnvironment.from_environment())
    room = Room(10**15) if way == "memory" else Room()
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        store = ReleaseStore(objects, "models", Path(cache), 600, room=room)
        before, started, cpu = peak_bytes("VmRSS"), time.perf_counter(), time.process_time()
        fetched = store.fetch(manifest)
        arrived = time.perf_counter() - started
        assert (fetched.files is not None) == (way == "memory")
        tensors = load_file(fetched.folder / "weights.safetensors")
        assert all(float(tensor.sum()) == 0 for tensor in tensors.values())
        took = {"seconds": time.perf_counter() - started, "fetch": arrived, "cpu": time.process_time() - cpu}
        print(json.dumps({**took, "peak": peak_bytes() - before}))
        if fetched.files is not None:
            fetched.files.close()


def write_release(folder: Path, gigabytes: int) -> int:
    """A release of zeros, which take no place on the disk, with its manifest. Returns its bytes."""
    from serving.releases.format import FileEntry, Manifest, digest_of, dump, version_of

    each = GIGABYTE // TENSORS_A_GB
    header = {
        f"layer{number}": {"dtype": "F32", "shape": [each // 4], "data_offsets": [number * each, (number + 1) * each]}
        for number in range(gigabytes * TENSORS_A_GB)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "weights.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + gigabytes * GIGABYTE)
    files = {path.name: FileEntry(size=path.stat().st_size, sha256=digest_of(path))}
    values = {"schema_version": 1, "version": version_of(files), "created": "2026-01-01T00:00:00Z"}
    manifest = Manifest.model_validate({**values, "files": {name: entry.model_dump() for name, entry in files.items()}})
    (folder / "manifest.json").write_bytes(dump(manifest))
    return path.stat().st_size


def _run(way: str, url: str, folder: Path) -> dict[str, float]:
    environment = {**function_environment(os.environ), **CREDENTIALS, "AWS_ENDPOINT_URL_S3": url}
    command = [sys.executable, "-m", "benchmarks.in_memory", way, str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _of_size(gigabytes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        size = write_release(Path(scratch), gigabytes)
        with serving("files", scratch) as url:
            rounds = []
            for number in range(ROUNDS):
                ways = WAYS if number % 2 else WAYS[::-1]
                rounds.append({way: _run(way, url, Path(scratch)) for way in ways})

    def ratio(figure: str) -> float:
        return round(statistics.median(each["disk"][figure] / each["memory"][figure] for each in rounds), 2)

    peak = max(each["memory"]["peak"] for each in rounds)
    return {
        "bytes": size,
        "disk_s": round(statistics.median(each["disk"]["seconds"] for each in rounds), 2),
        "memory_s": round(statistics.median(each["memory"]["seconds"] for each in rounds), 2),
        "speed_ratio": ratio("seconds"),
        "fetch_ratio": ratio("fetch"),
        "cpu_ratio": ratio("cpu"),
        "peak_of_size": round(peak / size, 3),
    }


def measure() -> dict[str, Any]:
    """Measure each size. `speed_ratio` and `cpu_ratio` are the disk's figure divided by that of memory."""
    found = {}
    for gigabytes in SIZES_GB:
        print(f"Bringing {gigabytes} GB into service, {ROUNDS} times in two ways", file=sys.stderr)
        found[f"{gigabytes} GB"] = _of_size(gigabytes)
    return found


if __name__ == "__main__":
    child(*sys.argv[1:])
