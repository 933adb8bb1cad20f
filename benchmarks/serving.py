"""Runs the benchmarks of the serving path, one after the other: `make bench`."""

import subprocess
import sys

# Each runs in a process of its own, because the function sets torch's threads before it imports torch.
BENCHMARKS = {
    "benchmarks.decoding": "Decoding: the post's way and ours",
    "benchmarks.overhead": "Overhead: one request inside the function, minus the bare model call",
}


def main() -> None:
    """Run all of them, even if one fails. Exit with 1 if any failed."""
    failed = []
    for module, title in BENCHMARKS.items():
        print(f"\n{title}\n", flush=True)
        if subprocess.run([sys.executable, "-m", module], check=False).returncode:
            failed.append(module)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
