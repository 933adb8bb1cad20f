"""Measures what a swap of releases costs requests, what it costs to fetch 1 GB, and what a check of the channel adds.

The channel is the small object in S3 that names the current release.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import fetching, in_memory, swapping
from lambda_torch import project


def table(result: dict[str, Any]) -> str:
    """The figures that the documents quote, in Markdown."""
    swap, fetch, check = result["swap"], result["fetch"], result["check"]
    rows = [
        ("swap: failed requests", f"{swap['failed_requests']} of {swap['requests']:,}, in {swap['swaps']} swaps"),
        (
            "swap: p99 of a request during / before",
            f"{swap['p99_during_ms']} / {swap['p99_before_ms']} ms = {swap['p99_ratio']} x",
        ),
        ("swap: from promote to the first answer of the new release", f"{swap['first_new_s']} s"),
        ("swap: from promote to the last answer of the old release", f"{swap['last_old_s']} s"),
        ("fetch of 1 GB: boto3 / ours", f"{fetch['boto3_s']} / {fetch['ours_s']} s = {fetch['speed_ratio']} x"),
        ("fetch of 1 GB: CPU time, boto3 / ours", f"{fetch['cpu_ratio']} x"),
        (
            "fetch of 1 GB: memory, ours / boto3",
            f"{fetch['ours_peak_mb']} / {fetch['boto3_peak_mb']} MB = {fetch['peak_ratio']} x",
        ),
        ("fetch and load of 1 GB: peak memory / size", f"{fetch['load_peak_of_size']} x"),
        ("check: added to a request, median", f"{check['added_ms_median']} ms to {check['none_median_ms']} ms"),
        ("check: added to a request, p99", f"{check['added_ms_p99']} ms to {check['none_p99_ms']} ms"),
        ("check: CPU time of one check", f"{check['cpu_ms_a_check']} ms"),
    ]
    for size, figures in result["in_memory"].items():
        rows += [
            (
                f"fetch and load of {size}: by the disk / straight into memory",
                f"{figures['disk_s']} / {figures['memory_s']} s = {figures['speed_ratio']} x",
            ),
            (f"fetch and load of {size}: CPU time, by the disk / straight into memory", f"{figures['cpu_ratio']} x"),
            (f"fetch and load of {size} into memory: peak memory / size", f"{figures['peak_of_size']} x"),
        ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)])


def main() -> None:
    """Print the table and write build/bench/releases.json."""
    from lambda_torch.names.default import a_release

    folder = a_release()
    project.use_function_code()
    with tempfile.TemporaryDirectory() as scratch:
        print("Swapping under load, and checking the channel: two minutes", file=sys.stderr)
        swap, check = swapping.measure(folder, Path(scratch))
    print("Fetching 1 GB: two minutes", file=sys.stderr)
    result = {"python": platform.python_version(), "swap": swap, "fetch": fetching.measure(), "check": check}
    result["in_memory"] = in_memory.measure()
    target = project.BUILD / "bench" / "releases.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"written to {target.relative_to(project.ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
